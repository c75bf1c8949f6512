//! `twofold`: parse, build, run.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use twofold::cli::{ArchiveCommand, Cli, Command, ConfigCommand, SpeedCommand};
use twofold::exit::{Exit, OutputError};
use twofold::input::InputError;
use twofold::{ads, batch, billing, check, demo, exit, key, period, prune, services, speed, topic};

use platform::settings::Settings;
use platform::telemetry;

fn main() -> ExitCode {
    let cli = Cli::parse();
    telemetry::init_logs(log_level(&cli.command));
    if let Some(folder) = cli.config.as_deref().filter(|path| path.is_dir()) {
        say(&format!("the settings file `{}` is a folder; name the file in it", folder.display()));
        return Exit::Usage.into();
    }
    let settings = match Settings::load(cli.config.as_deref()) {
        Ok(settings) => settings,
        Err(error) => {
            say(&error.to_string());
            return Exit::Usage.into();
        }
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&format!("the runtime cannot be started: {error}"));
            return Exit::Failure.into();
        }
    };
    let exit = runtime.block_on(run(cli, settings)).unwrap_or_else(|error| failed(&error));
    // A consumer that does not close must not keep a finished process alive.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    exit.into()
}

/// The demo talks to its user, and so does a night on a terminal; a service talks to its log.
fn log_level(command: &Command) -> &'static str {
    match command {
        Command::Demo(_) => "warn",
        Command::Sql(_) => "warn",
        Command::Batch(_) | Command::Audit { .. } if std::io::stderr().is_terminal() => "warn",
        _ => "info",
    }
}

fn failed(error: &anyhow::Error) -> Exit {
    if !error.downcast_ref::<OutputError>().is_some_and(OutputError::is_closed_pipe) {
        say(&exit::message(error));
    }
    match error.downcast_ref::<InputError>() {
        Some(error) if error.is_usage() => Exit::Usage,
        _ => Exit::of_error(error),
    }
}

/// Nobody may be listening any more.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "twofold: {text}");
}

async fn run(cli: Cli, settings: Settings) -> anyhow::Result<Exit> {
    telemetry::metrics();
    match cli.command {
        Command::Demo(args) => demo::run(*args, cli.json).await,
        Command::Collect => services::collect(&settings).await,
        Command::Speed { command: None } => services::speed(&settings).await,
        Command::Speed { command: Some(SpeedCommand::Status) } => speed::status(&settings, cli.json).await,
        Command::Archive { command: None } => services::archive(&settings).await,
        Command::Archive { command: Some(ArchiveCommand::Prune { keep, dry_run }) } => {
            prune::run(&settings, keep, dry_run, cli.json).await
        }
        Command::Serve { pgwire } => services::serve(&settings, pgwire).await,
        Command::Up => services::up(&settings).await,
        Command::Batch(command) => batch::run(&settings, command, cli.json).await,
        Command::Period(command) => period::run(&settings, command, cli.json).await,
        Command::Ads(command) => ads::run(&settings, command, cli.json).await,
        Command::Key(command) => key::run(&settings, command, cli.json).await,
        Command::Export(args) => billing::export::run(&settings, *args, cli.json).await,
        Command::Reconcile(args) => billing::reconcile::run(&settings, *args, cli.json).await,
        Command::Diff(args) => billing::diff::run(&settings, *args, cli.json).await,
        Command::Explain(args) => billing::explain::run(&settings, *args, cli.json).await,
        Command::Adjustments(command) => billing::adjustments::run(&settings, *command, cli.json).await,
        Command::Sql(args) => billing::ask::run(&settings, *args, cli.json).await,
        Command::Audit { date, engine } => batch::audit(&settings, date, engine, cli.json).await,
        Command::Topic(command) => topic::run(&settings, command, cli.json).await,
        Command::Check => check::run(&settings, cli.json).await,
        Command::Config(ConfigCommand::Show) => {
            exit::print(settings.to_toml().trim_end())?;
            Ok(Exit::Done)
        }
        Command::Config(ConfigCommand::Validate) => {
            exit::print("the settings are valid")?;
            Ok(Exit::Done)
        }
    }
}
