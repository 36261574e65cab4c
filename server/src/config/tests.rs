//! Every option through every source, precedence, bounds, and the relations between options.

use std::collections::HashMap;
use std::io::Write;

use super::*;

const MEMBER: &str = "00112233445566778899aabbccddeeff00112233";

/// What an operator gives: a file's text, variables and flags.
#[derive(Clone, Copy, Default)]
struct Input<'a> {
    file: &'a str,
    variables: &'a [(&'a str, &'a str)],
    flags: &'a [&'a str],
}

/// Loads a configuration; the path of the file is cut from messages.
fn load(input: Input<'_>) -> Result<Config, String> {
    let mut file = tempfile::Builder::new().prefix("redraft").suffix(".toml").tempfile().expect("a temporary file");
    file.write_all(input.file.as_bytes()).expect("a writable file");
    let path = file.path().to_str().expect("an ASCII path").to_owned();
    let command = clap::Command::new("server").args(flags());
    let matches = command.try_get_matches_from(std::iter::once("server").chain(input.flags.iter().copied())).map_err(|e| e.to_string())?;
    let mut variables: HashMap<&str, &str> = input.variables.iter().copied().collect();
    variables.insert("REDRAFT_CONFIG", &path);
    Config::load_from(Some(&matches), |name| variables.get(name).map(OsString::from))
        .map_err(|error| error.to_string().replace(&path, "FILE"))
}

fn shown(config: &Config, name: &str) -> String {
    config.get(name.as_bytes()).into_iter().next().expect("every option is shown").1
}

/// A value that differs from the default, with other options it needs.
fn sample(spec: &OptionSpec) -> String {
    match (spec.name, spec.kind) {
        ("replication-factor", _) => "5".to_owned(),
        ("election-timeout", _) => "1500".to_owned(),
        ("heartbeat-interval", _) => "200".to_owned(),
        (_, Kind::Number { max, .. }) => max.to_string(),
        (_, Kind::Flag) => if spec.default == "yes" { "no" } else { "yes" }.to_owned(),
        (_, Kind::Choice(words)) => (*words.iter().find(|word| **word != spec.default).expect("two words")).to_owned(),
        (_, Kind::Path) => "/var/lib/redraft".to_owned(),
        (_, Kind::Address | Kind::OptionalAddress) => "127.0.0.2:7000".to_owned(),
        (_, Kind::Addresses) => "node-1:16379,node-2:16379".to_owned(),
        (_, Kind::ClusterId) => MEMBER.to_owned(),
        (_, Kind::Secret) => "swordfish".to_owned(),
        (_, Kind::EventClasses) => "AKE".to_owned(),
        (_, Kind::HostNames) => "a.example,b.example".to_owned(),
        (_, Kind::Reported) => unreachable!("cannot be given"),
    }
}

#[test]
fn every_option_is_reached_by_flag_variable_and_file_and_lands_in_a_typed_field() {
    let without = format!("{:?}", load(Input::default()).expect("defaults"));
    for spec in OPTIONS.iter().filter(|spec| spec.change != Change::Never) {
        let value = sample(spec);
        let shown_value = if spec.kind == Kind::Secret { "(hidden)" } else { &value };
        let needed: &[&str] = if spec.name == "bootstrap-expect" { &["--join", "a:1"] } else { &[] };
        let flag = format!("--{}={value}", spec.name);
        let flags: Vec<&str> = needed.iter().copied().chain([flag.as_str()]).collect();
        let variable = spec.variable();
        let file = match spec.kind {
            Kind::Number { .. } => format!("{} = {value}", spec.name),
            _ => format!("{} = \"{value}\"", spec.name),
        };
        let by_flag = Input { flags: &flags, ..Input::default() };
        let by_variable = Input { variables: &[(&variable, &value)], flags: needed, ..Input::default() };
        let by_file = Input { file: &file, flags: needed, ..Input::default() };
        let inputs = if spec.change == Change::OneStart { vec![by_flag] } else { vec![by_flag, by_variable, by_file] };
        for input in inputs {
            let config = load(input).unwrap_or_else(|error| panic!("{}: {error}", spec.name));
            assert_eq!(shown(&config, spec.name), shown_value, "{}", spec.name);
            let debug = format!("{config:?}");
            assert_ne!(debug, without, "{} has no typed field", spec.name);
            assert!(!debug.contains("swordfish"), "{} is printed", spec.name);
        }
    }
}

#[test]
fn flag_wins_over_variable_over_file_over_default() {
    let maxclients = |input| load(input).expect("allowed").runtime.values().maxclients;
    let (file, variables, flags) = ("maxclients = 1", [("REDRAFT_MAXCLIENTS", "2")], ["--maxclients", "3"]);
    assert_eq!(maxclients(Input { file, variables: &variables, flags: &flags }), 3);
    assert_eq!(maxclients(Input { file, variables: &variables, flags: &[] }), 2);
    assert_eq!(maxclients(Input { file, ..Input::default() }), 1);
    assert_eq!(maxclients(Input::default()), 10_000);
    assert_eq!(maxclients(Input { file, variables: &[("REDRAFT_MAXCLIENTS", "")], flags: &[] }), 1);
}

#[test]
fn the_file_takes_toml_types() {
    let file = "bootstrap = false\njoin = [\"a:1\", \"b:2\"]\nblock-cache-bytes = \"1gb\"\nmemtable-bytes = 8388608\n";
    let config = load(Input { file, ..Input::default() }).expect("allowed");
    assert_eq!(config.join.iter().map(Address::to_string).collect::<Vec<_>>(), ["a:1", "b:2"]);
    assert_eq!((config.block_cache_bytes, config.memtable_bytes), (1 << 30, 8 << 20));
}

#[test]
fn a_flag_needs_no_value_and_join_may_be_repeated() {
    let flags = ["--join", "a:1", "--rejoin", "--join", "b:2,c:3"];
    let config = load(Input { flags: &flags, ..Input::default() }).expect("allowed");
    assert!(config.rejoin);
    assert_eq!(config.join.iter().map(Address::to_string).collect::<Vec<_>>(), ["a:1", "b:2", "c:3"]);
}

#[test]
fn what_is_for_one_start_is_taken_as_a_flag_only() {
    let check = |input, expected: &str| assert_eq!(load(input).expect_err(expected), expected);
    let why = "this option is for one start and taken as a flag only: --rejoin";
    check(Input { variables: &[("REDRAFT_REJOIN", "yes")], ..Input::default() }, &format!("REDRAFT_REJOIN: {why}"));
    check(Input { file: "rejoin = true", ..Input::default() }, &format!("FILE: rejoin: {why}"));
    // A flag does not make it right.
    check(Input { file: "rejoin = false", flags: &["--rejoin"], variables: &[] }, &format!("FILE: rejoin: {why}"));
    let flags = ["--rejoin", "--join=a:1"];
    assert!(load(Input { variables: &[("REDRAFT_REJOIN", "")], flags: &flags, file: "" }).expect("allowed").rejoin);
}

#[test]
fn errors_are_one_line_and_name_the_place() {
    let check = |input, expected: &str| assert_eq!(load(input).expect_err(expected), expected);
    let flag = |flags, expected| check(Input { flags, ..Input::default() }, expected);
    let file = |file, expected| check(Input { file, ..Input::default() }, expected);
    flag(&["--maxclients", "0"], "--maxclients: '0' is not a whole number from 1 to 1000000");
    flag(&["--block-cache-bytes", "many"], "--block-cache-bytes: 'many' is not a size from 1mb to 1024gb");
    flag(&["--timeout=-1"], "--timeout: '-1' is not a whole number of seconds from 0 to 2147483647");
    flag(&["--readonly-reads", "maybe"], "--readonly-reads: 'maybe' is not one of linearizable, local");
    flag(&["--listen", "6379"], "--listen: '6379' is not HOST:PORT with a port from 1 to 65535");
    flag(&["--bootstrap", "perhaps"], "--bootstrap: 'perhaps' is not yes or no");
    flag(&["--cluster-id", "x\ny"], "--cluster-id: 'x\\ny' is not a cluster id, which has 40 hex digits");
    check(
        Input { variables: &[("REDRAFT_MAX_ENTRY_BYTES", "1kb")], ..Input::default() },
        "REDRAFT_MAX_ENTRY_BYTES: '1kb' is not a size from 64kb to 64mb",
    );
    file("maxclients = -1", "FILE: maxclients: '-1' is not a whole number from 1 to 1000000");
    file("timeout = 1.5", "FILE: timeout: a TOML float is not a whole number of seconds from 0 to 2147483647");
    file("[clients]\nmaxclients = 1", "FILE: clients: there is no such option");
    file("databases = 3", "FILE: databases: there is no such option");
    let secret = format!("peer-secret = \"{}\"", "x".repeat(513));
    file(&secret, "FILE: peer-secret: the value is not a secret of at most 512 bytes");
    let error = load(Input { file: "timeout = 1\nmaxclients = =\n", ..Input::default() }).expect_err("bad TOML");
    assert!(error.starts_with("FILE: line 2: ") && !error.contains('\n'), "{error}");
}

#[test]
fn a_bad_value_is_told_even_where_a_stronger_source_overrides_it() {
    let input = Input { file: "maxclients = 0", flags: &["--maxclients", "3"], variables: &[] };
    assert_eq!(load(input).expect_err("bad file"), "FILE: maxclients: '0' is not a whole number from 1 to 1000000");
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load_from(None, |name| (name == "REDRAFT_CONFIG").then(|| OsString::from("/nonexistent/redraft.toml")));
    assert!(error.expect_err("missing").to_string().starts_with("/nonexistent/redraft.toml: No such file"));
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let check = |options: &[(&str, &str)], expected: Option<&str>| {
        assert_eq!(
            Config::from_options(options).map(|_| ()).map_err(|error| error.to_string()),
            expected.map_or(Ok(()), |e| Err(e.to_owned()))
        );
    };
    check(&[("replication-factor", "4")], Some("--replication-factor: '4' is not an odd number"));
    check(
        &[("heartbeat-interval", "500")],
        Some("election-timeout (default): '1000' is less than three times the heartbeat-interval of 500 ms"),
    );
    check(&[("heartbeat-interval", "500"), ("election-timeout", "1500")], None);
    check(
        &[("bootstrap", "yes"), ("join", "a:1")],
        Some("--bootstrap: a node cannot form a cluster of its own and join another: give bootstrap or join"),
    );
    check(
        &[("bootstrap", "yes"), ("bootstrap-expect", "1")],
        Some("--bootstrap: a node cannot form a cluster alone and with others: give bootstrap or bootstrap-expect"),
    );
    check(&[("bootstrap-expect", "3")], Some("--bootstrap-expect: needs join with the peer addresses of all nodes"));
    // To come back, a node needs no other flags than it always had.
    check(&[("rejoin", "yes")], None);
    check(&[("rejoin", "yes"), ("bootstrap", "yes")], None);
    check(&[("rejoin", "yes"), ("bootstrap", "yes"), ("join", "a:1")], None);
    check(&[("rejoin", "yes"), ("bootstrap-expect", "3")], None);
    check(
        &[("listen", "0.0.0.0:6379")],
        Some("--listen: others cannot connect to '0.0.0.0:6379': set advertise to an address that they can reach"),
    );
    check(
        &[("advertise-peer", "[::]:1")],
        Some("--advertise-peer: others cannot connect to '[::]:1': set advertise-peer to an address that they can reach"),
    );
    check(&[("listen", "0.0.0.0:6379"), ("advertise", "node-1:6379")], None);
    check(&[("admin-listen", "127.0.0.1:6379")], Some("--admin-listen: '127.0.0.1:6379' is the address of listen, too"));
    check(
        &[("peer-listen", "10.0.0.1:16379")],
        Some("--peer-listen: '10.0.0.1:16379' can be reached from other machines: set peer-secret, the same on all nodes"),
    );
    check(&[("peer-listen", "10.0.0.1:16379"), ("peer-secret", "s")], None);
}

#[test]
fn only_a_lone_local_node_bootstraps_unasked() {
    let check = |options: &[(&str, &str)], expected: bool| {
        assert_eq!(Config::from_options(options).expect("allowed").bootstraps_alone(), expected, "{options:?}");
    };
    check(&[], true);
    check(&[("join", "a:1")], false);
    check(&[("cluster-id", MEMBER)], false);
    check(&[("listen", "10.0.0.1:6379")], false);
    check(&[("listen", "10.0.0.1:6379"), ("bootstrap", "yes")], true);
}

#[test]
fn what_is_told_is_what_is_listened_on_unless_given() {
    let config = Config::from_options(&[("listen", "127.0.0.1:7001"), ("advertise-peer", "example.org:1")]).expect("allowed");
    assert_eq!((config.advertise.to_string(), config.advertise_peer.to_string()), ("127.0.0.1:7001".into(), "example.org:1".into()));
    assert_eq!(config.advertise_admin, config.admin_listen);
}

#[test]
fn docs_and_example_name_every_option() {
    let (docs, example) = (render_docs(), render_example());
    for spec in OPTIONS {
        assert!(docs.contains(&format!("| `{}` |", spec.name)), "{}", spec.name);
        let may_stand_in_a_file = matches!(spec.change, Change::AtStart | Change::AtRunTime);
        assert_eq!(example.contains(&format!("#{} = ", spec.name)), may_stand_in_a_file, "{}", spec.name);
    }
    let active: String = example.lines().filter_map(|line| line.strip_prefix('#')).filter(|line| !line.starts_with(' ')).fold(
        String::new(),
        |mut text, line| {
            text.push_str(line);
            text.push('\n');
            text
        },
    );
    let config = load(Input { file: &active, ..Input::default() }).expect("the example is valid");
    assert_eq!(format!("{config:?}"), format!("{:?}", load(Input::default()).expect("defaults")));
}
