//! The command line of `redraft cli`. Letters are redis-cli's, so `-h` is the host and help is `--help` alone.

use std::ffi::OsString;

use clap::Args;

use crate::config::Address;

/// Where a server is unless told otherwise.
const HOST: &str = "127.0.0.1";
const PORT: u16 = 6379;
/// Databases of a server.
const DATABASES: i64 = 16;

/// Where the password comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PasswordSource {
    /// The environment: REDRAFT_REQUIREPASS, if it is set
    Env,
    /// The terminal: asked for, and not shown
    Prompt,
}

/// What `redraft cli` was told. The text of each field is what --help says.
#[derive(Args, Clone, Debug)]
pub struct ConsoleOptions {
    /// Host of the server, a name or an address [default: 127.0.0.1]
    #[arg(short = 'h', long, value_name = "HOST", value_parser = host)]
    pub host: Option<String>,
    /// Its port; given several times, the next one is tried when a server does not answer [default: 6379]
    #[arg(short = 'p', long = "port", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub ports: Vec<u16>,
    /// Another server to try, on whatever host; may be given several times
    #[arg(long = "address", value_name = "HOST:PORT", value_parser = address)]
    pub addresses: Vec<Address>,
    /// Number of the database
    #[arg(short = 'n', long, value_name = "DB", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..DATABASES))]
    pub db: u32,
    /// Speak RESP3
    #[arg(short = '3', long)]
    pub resp3: bool,
    /// Where the password comes from
    #[arg(long, value_name = "SOURCE", value_enum, default_value_t = PasswordSource::Env)]
    pub password_from: PasswordSource,
    /// Print replies bare, as when the output is not a terminal
    #[arg(long, conflicts_with = "no_raw")]
    pub raw: bool,
    /// Print replies with their types, also when the output is not a terminal
    #[arg(long)]
    pub no_raw: bool,
    /// A command to run; without one, commands are read from standard input
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    pub command: Vec<OsString>,
}

impl ConsoleOptions {
    /// The servers to try, in this order; at least one.
    /// # Panics
    /// Never: every part was checked when it was parsed.
    #[must_use]
    pub fn servers(&self) -> Vec<Address> {
        let host = self.host.as_deref().unwrap_or(HOST);
        let at = |port: &u16| Address::parse(&format!("{host}:{port}")).expect("host and port were checked");
        let mut servers: Vec<Address> = self.ports.iter().map(at).collect();
        servers.extend(self.addresses.iter().cloned());
        if servers.is_empty() || (self.ports.is_empty() && self.host.is_some()) {
            servers.insert(0, at(&PORT));
        }
        servers
    }
}

fn address(text: &str) -> Result<Address, String> {
    Address::parse(text).ok_or_else(|| "not HOST:PORT".to_owned())
}

/// A host as it stands before a port: an IPv6 address gets its brackets.
fn host(text: &str) -> Result<String, String> {
    let host = if text.contains(':') && !text.starts_with('[') { format!("[{text}]") } else { text.to_owned() };
    match Address::parse(&format!("{host}:{PORT}")) {
        Some(_) => Ok(host),
        None => Err("not a host".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};

    use super::*;

    fn options(line: &str) -> ConsoleOptions {
        let command = ConsoleOptions::augment_args(Command::new("cli").disable_help_flag(true));
        let matches = command.try_get_matches_from(std::iter::once("cli").chain(line.split_whitespace()));
        let matches = matches.unwrap_or_else(|error| panic!("{line}: {error}"));
        ConsoleOptions::from_arg_matches(&matches).expect("clap has checked every value")
    }

    #[test]
    fn servers_are_tried_in_the_order_in_which_they_were_given() {
        let check = |line: &str, expected: &[&str]| {
            let servers: Vec<String> = options(line).servers().iter().map(ToString::to_string).collect();
            assert_eq!(servers, expected, "{line}");
        };
        check("", &["127.0.0.1:6379"]);
        check("-p 7001", &["127.0.0.1:7001"]);
        check("-p 7001 -p 7002", &["127.0.0.1:7001", "127.0.0.1:7002"]);
        check("-h node-1", &["node-1:6379"]);
        check("-h ::1 -p 1", &["[::1]:1"]);
        check("-h [::1] -p 1", &["[::1]:1"]);
        check("--address a:1 --address b:2", &["a:1", "b:2"]);
        check("-p 7001 --address b:2", &["127.0.0.1:7001", "b:2"]);
        check("-h a --address b:2", &["a:6379", "b:2"]);
    }

    #[test]
    fn what_follows_the_command_belongs_to_it() {
        let check = |line: &str, expected: &[&str]| assert_eq!(options(line).command, expected, "{line}");
        check("", &[]);
        check("-n 3 SET k -1", &["SET", "k", "-1"]);
        check("GET -p --raw", &["GET", "-p", "--raw"]);
        let options = options("-3 -n 3 --raw GET -n");
        assert_eq!((options.db, options.resp3, options.raw, options.no_raw), (3, true, true, false));
        assert_eq!(options.password_from, PasswordSource::Env);
    }
}
