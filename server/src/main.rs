//! The binary `redraft`: reads the command line, starts the log, and hands over to the library.

use std::io::IsTerminal;
use std::process::ExitCode;

use redraft::cli::{self, Action, EXIT_USAGE};
use redraft::config::{Config, LogLevel};
use redraft::console::{self, Verdict};
use redraft::{cluster, health, load, server};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt, reload};

/// Values are allocated by the network's threads and freed by those that apply and hand down, which costs the system's allocator a lock.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    abort_on_panic();
    let outcome: Result<ExitCode, (String, u8)> = match cli::parse(std::env::args_os()) {
        Err(error) => Err((error.to_string(), error.exit_code())),
        Ok(Action::Server(config)) => {
            start_log(Some(&config));
            server::run(*config).map(fine).map_err(|error| (error.to_string(), error.exit_code()))
        }
        Ok(Action::Cluster(command)) => {
            start_log(None);
            cluster::run(&command).map(fine).map_err(|error| (error.to_string(), EXIT_USAGE))
        }
        Ok(Action::Load(options)) => load::run(&options).map(fine).map_err(|error| (error.to_string(), EXIT_USAGE)),
        Ok(Action::Console(options)) => console::run(&options).map(exit_code).map_err(|error| (error.to_string(), EXIT_USAGE)),
        Ok(Action::Health(admin)) => health::ask(&admin).map(fine).map_err(|text| (text, EXIT_USAGE)),
        Ok(Action::Demo) => {
            start_log(None);
            cluster::demo().map(fine).map_err(|error| (error.to_string(), EXIT_USAGE))
        }
    };
    match outcome {
        Ok(code) => code,
        Err((text, code)) => {
            eprintln!("redraft: {text}");
            ExitCode::from(code)
        }
    }
}

/// The exit code of what went as it should.
fn fine((): ()) -> ExitCode {
    ExitCode::SUCCESS
}

/// The exit code of a conversation; an error reply was printed as a reply.
fn exit_code(verdict: Verdict) -> ExitCode {
    match verdict {
        Verdict::Fine => ExitCode::SUCCESS,
        Verdict::ErrorReply => ExitCode::from(EXIT_USAGE),
    }
}

/// A thread that panics must not leave a node behind that is half alive. The release profile aborts by itself; the development profile
/// unwinds, so that tests and the binary share their dependencies.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

/// Sends the log to standard error; with a configuration, at its level and following its changes.
fn start_log(config: Option<&Config>) {
    let level = config.map_or(LogLevel::Info, |config| config.runtime.values().log_level);
    let (filter, handle) = reload::Layer::new(filter(level));
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    tracing_subscriber::registry().with(filter).with(lines).init();
    if let Some(config) = config {
        config.runtime.listen_to_log_level(move |level| {
            if let Err(error) = handle.reload(self::filter(level)) {
                tracing::error!(%error, "the log level did not change");
            }
        });
    }
}

/// Our own messages at `level`; those of libraries only when they are warnings.
fn filter(level: LogLevel) -> EnvFilter {
    let libraries = if level == LogLevel::Error { "error" } else { "warn" };
    let level = level.word();
    EnvFilter::new(format!("{libraries},redraft={level},raftlog={level},resp={level}"))
}
