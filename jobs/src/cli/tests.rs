//! The command line, and that what the schedules start is one.

use super::*;

fn parse(words: &[String]) -> Cli {
    let parsed = Cli::try_parse_from(words);
    parsed.unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

fn refused(line: &str) -> String {
    let words = line.split_whitespace();
    match Cli::try_parse_from(words) {
        Ok(parsed) => panic!("{line}: {parsed:?}"),
        Err(error) => error.to_string(),
    }
}

/// The words of a shell command behind the name of the binary, up to a redirection.
fn words_of(command: &str) -> Vec<String> {
    let words = command.split_whitespace().skip_while(|word| !(*word == "twofold" || word.ends_with("/twofold")));
    words.take_while(|word| !word.starts_with('>')).map(str::to_owned).collect()
}

fn schedule(name: &str) -> String {
    let path = format!("{}/schedules/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn catches_up(cli: &Cli) -> Option<&RunHow> {
    match &cli.command {
        Command::Batch(BatchCommand::Run { catch_up: true, date: None, how, .. }) => Some(how),
        _ => None,
    }
}

/// Lines of a file of cron.d: five fields of time, the user, the command.
#[test]
fn what_cron_starts_is_a_command_line_of_ours() {
    let text = schedule("crontab");
    let jobs: Vec<&str> = text.lines().filter(|line| line.starts_with(['*', '0', '1', '2', '3', '4', '5'])).collect();
    assert_eq!(jobs.len(), 2);
    for job in &jobs {
        let fields: Vec<&str> = job.split_whitespace().collect();
        let in_time = |field: &str| field.chars().all(|c| c.is_ascii_digit() || "*/,-".contains(c));
        assert!(fields[..5].iter().all(|field| in_time(field)) && fields[5] == "twofold", "{job}");
        assert!(!job.contains('%'), "cron turns it into a line break");
        assert!(job.ends_with(">>/var/log/twofold/batch.log 2>&1"), "{job}");
    }
    // Behind the user's name.
    let command = |job: &str| job.split_whitespace().skip(6).collect::<Vec<_>>().join(" ");
    let night = command(jobs[0]);
    let lost = format!("--conflict-exit-code {} ", crate::exit::Exit::Lost as u8);
    assert!(
        night.starts_with("flock --nonblock") && night.contains(&lost),
        "a second run ends as it does without flock"
    );
    assert!(catches_up(&parse(&words_of(&night))).is_some(), "{night}");
    let weekly = parse(&words_of(&command(jobs[1])));
    assert!(matches!(weekly.command, Command::Batch(BatchCommand::Gc { dry_run: false, .. })), "{weekly:?}");
}

#[test]
fn what_systemd_starts_is_a_command_line_of_ours() {
    let text = schedule("twofold-batch.service");
    let starts: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("ExecStart=")).collect();
    assert_eq!(starts.len(), 1);
    let cli = parse(&words_of(starts[0]));
    let how = catches_up(&cli).expect("it closes all that is due");
    assert!(how.wait.is_some());
    let again = text.lines().find_map(|line| line.strip_prefix("SuccessExitStatus=")).unwrap();
    let codes = [crate::exit::Exit::Incomplete, crate::exit::Exit::Lost].map(|exit| (exit as u8).to_string());
    assert_eq!(again, codes.join(" "), "what is tried again is no failure");
}

/// `args` stands in one line, which is JSON.
#[test]
fn what_kubernetes_starts_is_a_command_line_of_ours() {
    let text = schedule("cronjob.yaml");
    let args = text.lines().find_map(|line| line.trim().strip_prefix("args: ")).unwrap();
    let args: Vec<String> = serde_json::from_str(args).unwrap();
    let words: Vec<String> = std::iter::once("twofold".to_owned()).chain(args).collect();
    let cli = parse(&words);
    let how = catches_up(&cli).expect("it closes all that is due");
    // The next start must find this one at an end, or it is left out.
    assert!(how.wait.unwrap().0 < std::time::Duration::from_secs(3600));
}

#[test]
fn flags_that_make_no_sense_together_are_refused() {
    for (line, named) in [
        ("twofold batch run --date 2026-03-01 --catch-up", "cannot be used with"),
        ("twofold batch run --lookback 3", "--catch-up"),
        ("twofold batch run --catch-up --lookback 0", "1 or more"),
        ("twofold batch run --catch-up --lookback 3w", "1 or more"),
        ("twofold batch run --wait soon", "15min"),
        ("twofold batch run --date 2026-3-1", "2026-03-01"),
        ("twofold batch gc --older-than 7", "7d"),
        ("twofold audit", "--date"),
        ("twofold batch run --accept because", "--date"),
        ("twofold batch run --catch-up --accept because", "cannot be used with"),
        ("twofold batch run --date 2026-03-01 --accept=", "it is empty"),
        ("twofold period reopen --date 2026-03-01", "--reason"),
        ("twofold period hold --reason odd", "--date"),
    ] {
        let message = refused(line);
        assert!(message.contains(named), "{line}: {message}");
    }
    for line in [
        "twofold batch run --catch-up --lookback 3d --wait 2h --dry-run -v",
        "twofold batch catch-up --lookback 3 --metrics-file x.prom --ping-url https://hc.example/x",
        "twofold --json audit --date 2026-03-01",
        "twofold batch gc --dry-run",
        "twofold batch run --date 2026-03-01 --accept campaign --actor ann",
        "twofold period reopen --date 2026-03-01 --reason wrong --actor ann",
        "twofold period status",
    ] {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    }
}
