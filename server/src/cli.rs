//! The command line of the binary `redraft`: `server` runs one node, `cluster` supervises several on this machine and `status` watches them,
//! `cli` is a client for people, `load` measures, `demo` shows what it is all for.
//! Parsing ends here: what leaves is a checked configuration or a typed command. Flags of `server` follow from the table of options, those
//! of `load` and `cli` from their own. Exit codes are a contract with supervisors and scripts.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};

use crate::cluster::{ClusterCommand, NODES_MAX, RecoverOptions, StartOptions, Survivors};
use crate::config::{Address, Config, ConfigError, flags};
use crate::console::ConsoleOptions;
use crate::load::LoadOptions;

/// Exit code: a configuration that is not allowed, a command that failed, a cluster that is not healthy or does not run.
pub const EXIT_USAGE: u8 = 1;
/// Exit code: a command line that is not understood.
pub const EXIT_BAD_FLAG: u8 = 2;
/// Exit codes of a node that has to end: it cannot be trusted or was removed, and a supervisor must not start it again; or the cause may
/// have passed when it is started again.
pub use crate::node::exit::{EXIT_DO_NOT_RESTART, EXIT_RESTART};

/// Where `cluster` keeps its nodes unless told otherwise.
const CLUSTER_DIR: &str = "./redraft-cluster";

/// What the command line asks for.
#[derive(Debug)]
pub enum Action {
    /// Run one node.
    Server(Box<Config>),
    /// Start, ask or stop a supervised cluster.
    Cluster(ClusterCommand),
    /// Measure how fast servers are.
    Load(Box<LoadOptions>),
    /// Talk to a server.
    Console(Box<ConsoleOptions>),
    /// Show on three nodes what they promise.
    Demo,
    /// Ask a node's admin listener whether it is ready.
    Health(Address),
}

/// Why there is nothing to do. Every text is one line.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The command line is not understood.
    #[error("{0}; try --help")]
    BadFlag(String),
    /// It is understood, but the configuration it leads to is not allowed.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl CliError {
    /// Exit code of the process.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::BadFlag(_) => EXIT_BAD_FLAG,
            Self::Config(_) => EXIT_USAGE,
        }
    }
}

/// Reads a command line, the program's name included. A question for help or version is answered and ends the process.
/// # Errors
/// The command line is not understood, or leads to a configuration that is not allowed.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Action, CliError> {
    match command().try_get_matches_from(args) {
        Ok(matches) => action(&matches),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => error.exit(),
            _ => Err(CliError::BadFlag(one_line(&error.to_string()))),
        },
    }
}

/// The message and the tip out of clap's page.
fn one_line(page: &str) -> String {
    let lines = page.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"));
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    // A list stands on lines of its own.
    let text = lines.join("; ").replace(":; ", ": ");
    text.strip_prefix("error: ").unwrap_or(&text).to_owned()
}

fn action(matches: &ArgMatches) -> Result<Action, CliError> {
    match matches.subcommand() {
        Some(("server", matches)) => Ok(Action::Server(Box::new(Config::load(matches)?))),
        Some(("cluster", matches)) => Ok(Action::Cluster(cluster_action(matches))),
        Some(("load", matches)) => {
            let options = LoadOptions::from_arg_matches(matches).expect("clap has checked every value");
            Ok(Action::Load(Box::new(options.checked().map_err(CliError::BadFlag)?)))
        }
        Some(("cli", matches)) => {
            Ok(Action::Console(Box::new(ConsoleOptions::from_arg_matches(matches).expect("clap has checked every value"))))
        }
        Some(("health", matches)) => Ok(Action::Health(matches.get_one::<Address>("admin").expect("has a default").clone())),
        Some(("status", matches)) => {
            let dir = matches.get_one::<PathBuf>("dir").expect("has a default").clone();
            let is_watched = matches.get_flag("watch");
            Ok(Action::Cluster(if is_watched { ClusterCommand::Watch { dir } } else { ClusterCommand::Overview { dir } }))
        }
        Some(("demo", _)) => Ok(Action::Demo),
        Some(_) | None => unreachable!("clap requires one of the subcommands"),
    }
}

fn cluster_action(matches: &ArgMatches) -> ClusterCommand {
    let (name, matches) = matches.subcommand().expect("clap requires a subcommand");
    let dir = matches.get_one::<PathBuf>("dir").expect("has a default").clone();
    let start = || StartOptions {
        dir: dir.clone(),
        nodes: matches.get_one::<u16>("nodes").copied(),
        base_port: matches.get_one::<u16>("base-port").copied(),
    };
    let node = || usize::from(*matches.get_one::<u16>("node").expect("clap requires it"));
    match name {
        "start" if matches.get_flag("foreground") => ClusterCommand::StartInForeground(start()),
        "start" => ClusterCommand::Start(start()),
        "supervise" => ClusterCommand::Supervise(start()),
        "status" if matches.get_flag("json") => ClusterCommand::StatusJson { dir },
        "status" => ClusterCommand::Status { dir },
        "stop" => ClusterCommand::Stop { dir },
        "rolling-restart" => ClusterCommand::RollingRestart { dir },
        "add" => ClusterCommand::Add { dir },
        "remove" => ClusterCommand::Remove { dir, node: node() },
        "rejoin" => ClusterCommand::Rejoin { dir, node: node() },
        "transfer" => ClusterCommand::Transfer { dir, to: matches.get_one::<u16>("to").map(|node| usize::from(*node)) },
        "verify" => ClusterCommand::Verify { dir },
        "recover" => {
            let survivors = match matches.get_many::<PathBuf>("data-dir") {
                Some(dirs) => Survivors::DataDirs(dirs.cloned().collect()),
                None => Survivors::Cluster(dir),
            };
            let [yes, despite_answers, json] = ["yes", "despite-answers", "json"].map(|flag| matches.get_flag(flag));
            ClusterCommand::Recover(RecoverOptions { survivors, yes, despite_answers, json })
        }
        "health" => ClusterCommand::Health { dir },
        _ => unreachable!("clap knows no other subcommand"),
    }
}

/// The whole command line.
#[must_use]
pub fn command() -> Command {
    Command::new("redraft")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A Redis server that can be used as a database of record: replicated by Raft, stored in RocksDB")
        .after_help("Try it: `redraft demo`; or `redraft cluster start`, then `redraft cli -p 7001`.")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(server_command())
        .subcommand(cluster_command())
        .subcommand(status_command())
        .subcommand(console_command())
        .subcommand(load_command())
        .subcommand(demo_command())
        .subcommand(health_command())
}

fn server_command() -> Command {
    Command::new("server")
        .about("Run one node")
        .long_about(
            "Run one node. Every option but --rejoin can also be given as an environment variable (--data-dir is REDRAFT_DATA_DIR) or as \
             a key of the TOML file that --config names; a flag wins over the environment, the environment over the file. Sizes take \
             Redis's units: 64mb, 1gb.",
        )
        .after_help(
            "Examples:\n  \
             redraft server                        one node on 127.0.0.1:6379, for a try\n  \
             redraft server --bootstrap-expect 3 --join a:16379,b:16379,c:16379 ...    the same on three machines\n\
             Exit codes: 0 stopped as told, 1 cannot start as configured, 2 bad flag, 3 must not be started again without an operator,\n\
             4 out of disk space, file descriptors or memory: may be started again.",
        )
        .args(flags())
}

/// Where the cluster is.
fn dir() -> Arg {
    Arg::new("dir")
        .long("dir")
        .value_name("DIR")
        .value_parser(value_parser!(PathBuf))
        .default_value(CLUSTER_DIR)
        .help("Directory of the cluster: node-1, node-2, ... and cluster.json")
}

/// The number of a node of the cluster.
fn node(name: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name("N")
        .value_parser(value_parser!(u16).range(1..=i64::from(NODES_MAX)))
        .help("Number of the node, from 1, as in the name of its directory")
}

fn cluster_command() -> Command {
    let start_args = || {
        let nodes = Arg::new("nodes")
            .long("nodes")
            .value_name("N")
            .value_parser(value_parser!(u16).range(1..=i64::from(NODES_MAX)))
            .help("How many nodes [default: 3, or what the directory has]");
        let base_port = Arg::new("base-port")
            .long("base-port")
            .value_name("PORT")
            .value_parser(value_parser!(u16).range(1..))
            .help("Port of node 1; node i listens on PORT+i-1, for peers 10000 and for the admin 1000 above that [default: 7001]");
        [dir(), nodes, base_port]
    };
    let foreground =
        Arg::new("foreground").long("foreground").action(ArgAction::SetTrue).help("Stay in the foreground; Ctrl-C stops all nodes");
    let json = Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print a JSON array with an object per node");
    Command::new("cluster")
        .about("Run and supervise several nodes on this machine")
        .after_help(
            "Options of the nodes (see `redraft server --help`) are taken from the environment: \
             REDRAFT_BLOCK_CACHE_BYTES=1gb redraft cluster start",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("start")
                .about("Start the nodes and a supervisor that brings a crashed node back within 2 seconds")
                .args(start_args())
                .arg(foreground),
        )
        .subcommand(Command::new("status").about("Show every node; exits with 1 if the cluster does not run").arg(dir()).arg(json))
        .subcommand(Command::new("stop").about("Stop all nodes and the supervisor").arg(dir()))
        .subcommand(
            Command::new("rolling-restart")
                .visible_alias("restart")
                .about("Restart the nodes one at a time, each after the last has caught up")
                .arg(dir()),
        )
        .subcommand(Command::new("add").about("Start one node more, which joins the others by itself").arg(dir()))
        .subcommand(
            Command::new("remove")
                .about("Have a node leave the others for good: it is stopped, and its directory is set aside")
                .arg(dir())
                .arg(node("node").required(true)),
        )
        .subcommand(
            Command::new("transfer")
                .about("Have another node lead")
                .arg(dir())
                .arg(node("to").help("Number of the node that shall lead [default: the follower with the longest log]")),
        )
        .subcommand(
            Command::new("verify")
                .about("Compare all data of all nodes; exits with 1 unless all are equal. A node that a majority contradicts stops")
                .arg(dir()),
        )
        .subcommand(
            Command::new("rejoin")
                .about("Bring a node that stays down back as a new one: its data are set aside, and it gets those of the other nodes")
                .after_help(
                    "The other nodes that answer and have a leader must be more than half of the voters. A node that answers is left alone; to make it a new one \
                     all the same, remove it first: redis-cli -p PORT RAFT REMOVE ID.",
                )
                .arg(dir())
                .arg(node("node").required(true)),
        )
        .subcommand(recover_command())
        .subcommand(
            Command::new("health").about("Exit with 0 if all nodes are alive, one leads, and each answers a linearizable read").arg(dir()),
        )
        // What `start` without --foreground leaves behind; not for people.
        .subcommand(Command::new("supervise").hide(true).args(start_args()))
}

fn recover_command() -> Command {
    let data_dir = Arg::new("data-dir")
        .long("data-dir")
        .value_name("DIR")
        .value_parser(value_parser!(PathBuf))
        .action(ArgAction::Append)
        .conflicts_with("dir")
        .help("Data directory of a survivor, for nodes that are not run by `redraft cluster`; give all that there are");
    let yes = Arg::new("yes").long("yes").action(ArgAction::SetTrue).help("Do not ask");
    let despite_answers = Arg::new("despite-answers")
        .long("despite-answers")
        .action(ArgAction::SetTrue)
        .requires("yes")
        .help("Go on although somebody answers at the peer address of a voter that is not here");
    let json = Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print the report and the outcome as a JSON object each");
    Command::new("recover")
        .about("After a majority was lost for ever: make a survivor a cluster of its own. Says what may be lost, and asks first")
        .long_about(
            "After a majority of the voters was lost for ever: make a surviving node a cluster of its own, which empty nodes then join. The \
             nodes must not run. Of several directories one is taken that has all that any of them knows to be committed, and of these the one \
             with the longest log of the highest term. Before anything is changed, a report says what may be lost, and recovery has to be agreed to. It is refused while a majority is there: start those nodes.",
        )
        .after_help(
            "Examples:\n  \
             redraft cluster recover                                            the cluster in ./redraft-cluster\n  \
             redraft cluster recover --data-dir /var/lib/redraft                one server that is left\n\
             Interrupted, it is run again as it was. Copy the directories first.",
        )
        .arg(dir())
        .arg(data_dir)
        .arg(yes)
        .arg(despite_answers)
        .arg(json)
}

fn health_command() -> Command {
    let admin = Arg::new("admin")
        .long("admin")
        .value_name("HOST:PORT")
        .value_parser(|text: &str| Address::parse(text).ok_or("not HOST:PORT"))
        .default_value("127.0.0.1:8379")
        .help("The node's admin listener");
    Command::new("health").about("Exit with 0 if a node can serve a linearizable read; for containers and scripts").arg(admin)
}

fn status_command() -> Command {
    let watch = Arg::new("watch").long("watch").action(ArgAction::SetTrue).help("Show them again every second, until q or Ctrl-C");
    Command::new("status")
        .about("Show how the nodes of a cluster on this machine do; exits with 1 if it does not run")
        .after_help("LAG is in entries of the log, behind what is known to be committed. For scripts: redraft cluster status --json")
        .arg(dir())
        .arg(watch)
}

fn console_command() -> Command {
    ConsoleOptions::augment_args(Command::new("cli").disable_help_flag(true))
        .about("Talk to a server that speaks Redis's protocol")
        .long_about(
            "Talk to a server that speaks Redis's protocol, redraft or another, as with redis-cli: one command, those of standard input, or \
             at a prompt with history and completion (Tab). When the server ends, the next one given is tried; a write that may have been \
             executed is not sent again.",
        )
        .after_help(
            "Examples:\n  \
             redraft cli -p 7001 SET greeting hello        one command\n  \
             redraft cli -p 7001 -p 7002 -p 7003           a prompt that outlives a node\n  \
             redraft cli -p 7001 < commands                a command on each line\n\
             Exit codes: 0 answered, 1 an error reply or no reply, 2 bad flag.",
        )
        .arg(Arg::new("help").long("help").action(ArgAction::Help).help("Print help"))
}

fn demo_command() -> Command {
    Command::new("demo").about("Show what redraft promises, in less than a minute").long_about(
        "Show what redraft promises: three nodes in a temporary directory are written to, lose their leader, lose their majority and get \
             it back, with nothing lost. It ends by itself and leaves nothing behind.",
    )
}

fn load_command() -> Command {
    LoadOptions::augment_args(Command::new("load"))
        .about("Measure how fast a server that speaks Redis's protocol is")
        .long_about(
            "Put a load on servers that speak Redis's protocol, redraft or another, and measure throughput and latency. A password is \
             taken from the environment: REDRAFT_REQUIREPASS.",
        )
        .after_help(
            "Examples:\n  \
             redraft load --test fill --keys 1000000                 write a million keys once\n  \
             redraft load --test get --pipeline 16                   how fast are pipelined reads?\n  \
             redraft load --test mixed --rate 20000 --seconds 60     how late are replies at 20,000 commands/s?\n\
             Exit codes: 0 measured, 1 no command succeeded or keys were not filled, 2 bad flag.",
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Action, CliError> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn cluster(line: &str) -> ClusterCommand {
        match parsed(line) {
            Ok(Action::Cluster(command)) => command,
            Ok(Action::Health(_) | Action::Server(_) | Action::Load(_) | Action::Console(_) | Action::Demo) | Err(_) => {
                panic!("{line} is no cluster command")
            }
        }
    }

    #[test]
    fn the_definition_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn server_flags_become_a_configuration() {
        let Ok(Action::Server(config)) = parsed("redraft server --listen 127.0.0.1:7 --bootstrap") else { panic!("not a server") };
        assert_eq!((config.listen.to_string().as_str(), config.bootstrap), ("127.0.0.1:7", true));
    }

    #[test]
    fn cluster_commands_are_typed() {
        let dir = PathBuf::from(CLUSTER_DIR);
        let options = |dir: &str, nodes, base_port| StartOptions { dir: dir.into(), nodes, base_port };
        assert_eq!(cluster("redraft cluster start"), ClusterCommand::Start(options(CLUSTER_DIR, None, None)));
        assert_eq!(
            cluster("redraft cluster start --nodes 5 --dir /d --base-port 9001 --foreground"),
            ClusterCommand::StartInForeground(options("/d", Some(5), Some(9001)))
        );
        assert_eq!(cluster("redraft cluster status"), ClusterCommand::Status { dir: dir.clone() });
        assert_eq!(cluster("redraft cluster status --json --dir /d"), ClusterCommand::StatusJson { dir: "/d".into() });
        assert_eq!(cluster("redraft cluster stop"), ClusterCommand::Stop { dir: dir.clone() });
        for name in ["rolling-restart", "restart"] {
            assert_eq!(cluster(&format!("redraft cluster {name}")), ClusterCommand::RollingRestart { dir: dir.clone() });
        }
        assert_eq!(cluster("redraft cluster add"), ClusterCommand::Add { dir: dir.clone() });
        assert_eq!(cluster("redraft cluster remove --node 2 --dir /d"), ClusterCommand::Remove { dir: "/d".into(), node: 2 });
        assert_eq!(cluster("redraft cluster transfer"), ClusterCommand::Transfer { dir: dir.clone(), to: None });
        assert_eq!(cluster("redraft cluster transfer --to 3 --dir /d"), ClusterCommand::Transfer { dir: "/d".into(), to: Some(3) });
        assert_eq!(cluster("redraft cluster verify"), ClusterCommand::Verify { dir: dir.clone() });
        assert_eq!(cluster("redraft status"), ClusterCommand::Overview { dir: dir.clone() });
        assert_eq!(cluster("redraft status --watch --dir /d"), ClusterCommand::Watch { dir: "/d".into() });
        assert_eq!(cluster("redraft cluster rejoin --node 2 --dir /d"), ClusterCommand::Rejoin { dir: "/d".into(), node: 2 });
        let recover = |survivors, yes, json| ClusterCommand::Recover(RecoverOptions { survivors, yes, despite_answers: false, json });
        assert_eq!(cluster("redraft cluster recover"), recover(Survivors::Cluster(dir.clone()), false, false));
        assert_eq!(cluster("redraft cluster recover --dir /d --yes"), recover(Survivors::Cluster("/d".into()), true, false));
        let despite_answers = RecoverOptions { survivors: Survivors::Cluster(dir.clone()), yes: true, despite_answers: true, json: false };
        assert_eq!(cluster("redraft cluster recover --yes --despite-answers"), ClusterCommand::Recover(despite_answers));
        let data_dirs = Survivors::DataDirs(vec!["/a".into(), "/b".into()]);
        assert_eq!(cluster("redraft cluster recover --data-dir /a --data-dir /b --json"), recover(data_dirs, false, true));
        assert_eq!(cluster("redraft cluster health"), ClusterCommand::Health { dir });
    }

    #[test]
    fn a_load_has_its_options() {
        let Ok(Action::Load(options)) = parsed("redraft load --address h:1 --test incr --keys 1") else { panic!("not a load") };
        assert_eq!((options.addresses[0].to_string().as_str(), options.keys), ("h:1", 1));
    }

    #[test]
    fn a_console_has_its_options_and_its_command() {
        let Ok(Action::Console(options)) = parsed("redraft cli -h node-1 -p 1 -n 2 -3 SET k -1") else { panic!("not a console") };
        assert_eq!((options.servers()[0].to_string().as_str(), options.db, options.resp3), ("node-1:1", 2, true));
        assert_eq!(options.command, ["SET", "k", "-1"]);
        assert!(matches!(parsed("redraft demo"), Ok(Action::Demo)));
    }

    #[test]
    fn bad_lines_are_refused_in_one_line() {
        let check = |line: &str, expected: &str| {
            let error = parsed(line).expect_err(line);
            assert_eq!((error.to_string().as_str(), error.exit_code()), (expected, EXIT_BAD_FLAG), "{line}");
        };
        check("redraft serve", "unrecognized subcommand 'serve'; tip: a similar subcommand exists: 'server'; try --help");
        check("redraft server --listne x", "unexpected argument '--listne' found; tip: a similar argument exists: '--listen'; try --help");
        check("redraft server stray", "unexpected argument 'stray' found; try --help");
        check("redraft server --timeout 1 --timeout 2", "the argument '--timeout <SECONDS>' cannot be used multiple times; try --help");
        check("redraft cluster start --nodes 0", "invalid value '0' for '--nodes <N>': 0 is not in 1..=9; try --help");
        check("redraft cluster start --nodes many", "invalid value 'many' for '--nodes <N>': invalid digit found in string; try --help");
        check(
            "redraft cluster start --base-port 70000",
            "invalid value '70000' for '--base-port <PORT>': 70000 is not in 1..=65535; try --help",
        );
        check("redraft cluster rejoin --node 0", "invalid value '0' for '--node <N>': 0 is not in 1..=9; try --help");
        check("redraft cluster rejoin", "the following required arguments were not provided: --node <N>; try --help");
        check("redraft cluster remove", "the following required arguments were not provided: --node <N>; try --help");
        check(
            "redraft cluster recover --dir /d --data-dir /a",
            "the argument '--dir <DIR>' cannot be used with '--data-dir <DIR>'; try --help",
        );
        check("redraft cluster recover --despite-answers", "the following required arguments were not provided: --yes; try --help");
        check("redraft cluster transfer --to 10", "invalid value '10' for '--to <N>': 10 is not in 1..=9; try --help");
        check("redraft cli -p 0", "invalid value '0' for '--port <PORT>': 0 is not in 1..=65535; try --help");
        check("redraft cli -h a,b", "invalid value 'a,b' for '--host <HOST>': not a host; try --help");
        check("redraft cli --raw --no-raw", "the argument '--raw' cannot be used with '--no-raw'; try --help");
        check("redraft load --address here", "invalid value 'here' for '--address <HOST:PORT>': not HOST:PORT; try --help");
        check("redraft load --key-bytes 4", "--keys 100000 need --key-bytes 9 at least; try --help");
        check("redraft cluster stop --json", "unexpected argument '--json' found; try --help");
    }

    #[test]
    fn a_bad_configuration_is_another_exit_code() {
        let error = parsed("redraft server --maxclients 0").expect_err("out of bounds");
        assert_eq!(error.exit_code(), EXIT_USAGE);
    }
}
