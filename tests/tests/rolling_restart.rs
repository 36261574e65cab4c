//! A rolling restart by SIGTERM under load: clients of the other nodes see no error, those of the stopping node get every answer to what it
//! had read. So what has no answer was never executed, and the counters show exactly what was acknowledged.

use redraft_tests::{Cluster, Load, LoadPlan, Shape};

#[test]
fn a_rolling_restart_is_seen_by_nobody_elsewhere() {
    let mut cluster = Cluster::start(3);
    for position in cluster.positions() {
        let start = |name: String, positions: &[usize], shape| {
            Load::start(&LoadPlan { name, addresses: cluster.addresses_of(positions), workers: 3, shape })
        };
        let others = cluster.others(position);
        let elsewhere = [
            start(format!("elsewhere{position}"), &others, Shape::Single),
            start(format!("elsewhere-deep{position}"), &others, Shape::Pipelined(10)),
        ];
        let here = [
            start(format!("here{position}"), &[position], Shape::Single),
            start(format!("here-deep{position}"), &[position], Shape::Pipelined(10)),
        ];
        elsewhere.iter().chain(&here).for_each(|load| load.wait_for(30));
        cluster[position].stop();
        elsewhere.iter().for_each(|load| load.wait_for(30));
        cluster.bring_back(position);
        here.iter().for_each(|load| load.wait_for(30));

        let mut client = cluster.client(position);
        for record in elsewhere.map(Load::stop) {
            record.check_no_errors();
            record.check(&mut client);
        }
        for record in here.map(Load::stop) {
            assert!(record.errors().is_empty(), "clients of the stopping node see no error reply: {:?}", record.errors());
            let totals = record.check(&mut client);
            assert_eq!(totals.counter, totals.increments, "what has no answer was not executed: {totals:?}");
        }
    }
    cluster.wait_converged();
}
