//! `twofold`: parse, build, run.

use std::process::ExitCode;

use clap::Parser;
use twofold::cli::{Cli, Command, ConfigCommand};
use twofold::exit::Exit;
use twofold::{batch, check, demo, services, topic};

use platform::settings::Settings;
use platform::telemetry;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // The demo talks to its user; a service talks to its log.
    telemetry::init_logs(if matches!(cli.command, Command::Demo(_)) { "warn" } else { "info" });
    let settings = match Settings::load(cli.config.as_deref()) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("twofold: {error}");
            return Exit::Usage.into();
        }
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("twofold: the runtime cannot be started: {error}");
            return Exit::Failure.into();
        }
    };
    let exit = runtime.block_on(run(cli, settings)).unwrap_or_else(|error| {
        eprintln!("twofold: {error:#}");
        Exit::of_error(&error)
    });
    // A consumer that does not close must not keep a finished process alive.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    exit.into()
}

async fn run(cli: Cli, settings: Settings) -> anyhow::Result<Exit> {
    telemetry::metrics();
    match cli.command {
        Command::Demo(args) => demo::run(*args).await,
        Command::Collect => services::collect(&settings).await,
        Command::Speed => services::speed(&settings).await,
        Command::Archive => services::archive(&settings).await,
        Command::Serve => services::serve(&settings).await,
        Command::Up => services::up(&settings).await,
        Command::Batch(command) => batch::run(&settings, command, cli.json).await,
        Command::Topic(command) => topic::run(&settings, command, cli.json).await,
        Command::Check => check::run(&settings, cli.json).await,
        Command::Config(ConfigCommand::Show) => {
            print!("{}", settings.to_toml());
            Ok(Exit::Done)
        }
        Command::Config(ConfigCommand::Validate) => {
            println!("the settings are valid");
            Ok(Exit::Done)
        }
    }
}
