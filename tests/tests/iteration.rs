//! SCAN, KEYS and RANGE while keys come and go, and over the change of nodes.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use redraft_tests::client::{elements, text};
use redraft_tests::{Client, Cluster, Node, Value};

/// One page: the next cursor, and the keys.
fn page(client: &mut Client, command: &[&str]) -> (String, Vec<String>) {
    let [cursor, keys] = <[Value; 2]>::try_from(elements(client.must(command))).expect("a page has two parts");
    (text(&cursor), elements(keys).iter().map(text).collect())
}

/// All keys that a whole SCAN yields; clients take turns, page by page.
fn scan(clients: &mut [Client], options: &[&str]) -> Vec<String> {
    let (mut cursor, mut found) = ("0".to_owned(), Vec::new());
    for number in 0.. {
        let command: Vec<&str> = ["SCAN", &cursor].into_iter().chain(options.iter().copied()).collect();
        let turn = number % clients.len();
        let (next, keys) = page(&mut clients[turn], &command);
        found.extend(keys);
        cursor = next;
        if cursor == "0" {
            break;
        }
    }
    found
}

fn stable_keys(count: usize) -> BTreeSet<String> {
    (0..count).map(|number| format!("stable:{number}")).collect()
}

fn write_all(client: &mut Client, keys: &BTreeSet<String>) {
    client.pipeline(keys.iter().map(|key| ["SET", key, "v"])).expect("the node answers");
}

#[test]
fn a_scan_finds_every_key_that_stays() {
    let node = Node::alone(&[]);
    let stable = stable_keys(2_000);
    write_all(&mut node.client(), &stable);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = node.client();
            for round in 0_u64.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let commands = (0..100).map(|number| {
                    let command = if round % 2 == 0 { "SET" } else { "DEL" };
                    let key = format!("passing:{}", (round / 2 * 100 + number) % 3_000);
                    if command == "SET" { vec![command.to_owned(), key, "v".to_owned()] } else { vec![command.to_owned(), key] }
                });
                client.pipeline(commands).expect("the node answers");
            }
        });
        let mut client = [node.client()];
        for _ in 0..5 {
            let found: BTreeSet<String> = scan(&mut client, &["COUNT", "50"]).into_iter().collect();
            let missing: Vec<_> = stable.difference(&found).collect();
            assert!(missing.is_empty(), "{} keys that stayed were not found, such as {:?}", missing.len(), missing[0]);
            let matched: BTreeSet<String> = scan(&mut client, &["MATCH", "stable:1*", "COUNT", "500"]).into_iter().collect();
            assert!(matched == stable.iter().filter(|key| key.starts_with("stable:1")).cloned().collect());
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_cursor_holds_on_every_node_and_over_the_end_of_the_leader() {
    let mut cluster = Cluster::start(3);
    let stable = stable_keys(1_000);
    write_all(&mut cluster.client(0), &stable);
    let mut clients: Vec<Client> = cluster.positions().map(|position| cluster.client(position)).collect();
    let found = scan(&mut clients, &["COUNT", "20"]);
    assert_eq!(found.len(), stable.len(), "without changes every key is found once");
    assert!(found.into_iter().collect::<BTreeSet<_>>() == stable);

    // Half of it before, half of it after the leader has ended.
    let leader = cluster.leader();
    let survivor = cluster.others(leader)[0];
    let (mut cursor, mut keys) = page(&mut cluster.client(leader), &["SCAN", "0", "COUNT", "500"]);
    cluster[leader].kill();
    let mut client = cluster.client(survivor);
    while cursor != "0" {
        let (next, more) = page(&mut client, &["SCAN", &cursor, "COUNT", "500"]);
        keys.extend(more);
        cursor = next;
    }
    assert!(keys.into_iter().collect::<BTreeSet<_>>() == stable);
}

#[test]
fn ranges_come_in_order_page_by_page() {
    let node = Node::alone(&[]);
    let mut client = node.client();
    let stable = stable_keys(1_000);
    write_all(&mut client, &stable);
    let mut sorted: Vec<String> = stable.iter().cloned().collect();
    for reversed in [false, true] {
        let (mut cursor, mut found) = ("0".to_owned(), Vec::new());
        loop {
            let bounds = if reversed { ["+", "-"] } else { ["-", "+"] };
            let mut command = vec!["RANGE", bounds[0], bounds[1]];
            if reversed {
                command.push("REV");
            }
            command.extend(["COUNT", "70"]);
            if cursor != "0" {
                command.extend(["CURSOR", &cursor]);
            }
            let (next, keys) = page(&mut client, &command);
            assert!(keys.len() <= 70);
            found.extend(keys);
            cursor = next;
            if cursor == "0" {
                break;
            }
        }
        assert!(found == sorted, "reversed: {reversed}");
        sorted.reverse();
    }
    let (_, keys) = page(&mut client, &["RANGE", "[stable:10", "(stable:101"]);
    assert_eq!(keys, ["stable:10", "stable:100"]);
    assert_eq!(elements(client.must(&["KEYS", "stable:99?"])).len(), 10);
}
