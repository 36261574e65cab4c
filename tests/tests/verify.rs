//! RAFT VERIFY on healthy clusters. Damaged replicas are the business of a test beside the server, which can damage them.

use redraft_tests::verify::compare;
use redraft_tests::{Cluster, Load, LoadPlan, Node, Shape};

#[test]
fn replicas_are_equal_under_load_whichever_node_is_asked() {
    let cluster = Cluster::start(3);
    let plan = LoadPlan { name: "load".to_owned(), addresses: cluster.addresses(), workers: 3, shape: Shape::Pipelined(20) };
    let load = Load::start(&plan);
    load.wait_for(50);
    let mut last_index = 0;
    for round in 0..6 {
        load.wait_for(5);
        let comparison = compare(&mut cluster.client(round % 3));
        assert!(comparison.is_equal() && comparison.members.len() == 3, "{comparison:?}");
        assert!(comparison.index > last_index);
        last_index = comparison.index;
    }
    let record = load.stop();
    record.check_no_errors();
    for position in cluster.positions() {
        let info = redraft_tests::client::text(&cluster.client(position).must(&["INFO", "raft"]));
        assert!(info.contains(&format!("verify_last_index:{last_index}\r\n")), "{info}");
        assert!(info.contains("verify_mismatches:0\r\n") && info.contains("verify_differing:0\r\n"), "{info}");
    }
    record.check(&mut cluster.client(0));
}

#[test]
fn clients_that_ask_at_the_same_time_all_learn_the_outcome() {
    let cluster = Cluster::start(3);
    cluster.client(0).set("k", "v");
    std::thread::scope(|scope| {
        for number in 0..12 {
            let mut client = cluster.client(number % 3);
            scope.spawn(move || {
                let comparison = compare(&mut client);
                assert!(comparison.is_equal(), "{comparison:?}");
            });
        }
    });
}

#[test]
fn replicas_are_equal_after_expiry_flush_snapshot_and_change_of_members() {
    let mut cluster = Cluster::start_with(3, &["--raft-log-bytes-max", "1mb"]);
    let mut client = cluster.client(0);
    for key in 0..200 {
        client.must(&["SET", &format!("short:{key}"), "v", "PX", "50"]);
        client.set(&format!("long:{key}"), "x".repeat(1000));
    }
    client.must(&["FLUSHALL"]);
    let load = Load::on("load", cluster.addresses(), 3);
    load.wait_for(100);
    let behind = cluster.followers()[0];
    cluster[behind].kill();
    let large = "y".repeat(100_000);
    for key in 0..40 {
        cluster.client(cluster.others(behind)[0]).set(&format!("large:{key}"), &large);
    }
    cluster.bring_back(behind);
    let added = cluster.add_node();
    drop(load.stop());
    cluster.wait_converged();
    let comparison = compare(&mut cluster.client(added));
    assert!(comparison.is_equal() && comparison.members.len() == 4, "{comparison:?}");
}

#[test]
fn a_member_that_is_down_is_missing_and_not_wrong() {
    let mut cluster = Cluster::start(3);
    cluster.client(0).set("k", "v");
    let down = cluster.followers()[0];
    let down_id = cluster.node_id(down);
    cluster[down].kill();
    let comparison = compare(&mut cluster.client(cluster.others(down)[0]));
    assert_eq!(comparison.result, "incomplete");
    for member in &comparison.members {
        let expected = if member.node_id == down_id { ("missing", true) } else { ("equal", false) };
        assert_eq!((member.state.as_str(), member.hash.is_none()), expected, "{comparison:?}");
    }
    cluster.bring_back(down);
    assert!(compare(&mut cluster.client(down)).is_equal());
}

#[test]
fn a_node_alone_reads_all_of_its_data() {
    let node = Node::alone(&[]);
    let mut client = node.client();
    let empty = compare(&mut client);
    client.set("k", "v");
    client.hello3();
    let filled = compare(&mut client);
    assert!(empty.is_equal() && filled.is_equal() && empty.members[0].hash != filled.members[0].hash);
}
