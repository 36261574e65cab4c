//! The commands of a test: which there are in a pipeline, and their bytes.
//! A `Workload` is made once and shared; a `Generator` is one connection's part in it, with chance of its own that follows from the seed.
//! Commands are put together from parts that are made beforehand, since encoding is a good part of what a generator does.

use std::ops::Range;
use std::sync::Arc;

use bytes::BytesMut;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::distribution::KeyDraw;
use super::keys::KeyForm;
use super::options::{LoadOptions, Test};
use super::values::ValuePool;

/// Keys of one MSET.
pub(super) const MSET_KEYS: u64 = 10;

const SET: &[u8] = b"*3\r\n$3\r\nSET\r\n";
const GET: &[u8] = b"*2\r\n$3\r\nGET\r\n";
const INCR: &[u8] = b"*2\r\n$4\r\nINCR\r\n";
const MSET: &[u8] = b"*21\r\n$4\r\nMSET\r\n";

/// What all connections have in common.
#[derive(Debug)]
pub(super) struct Workload {
    test: Test,
    /// Of the mixed test.
    reads_percent: u32,
    draw: KeyDraw,
    form: KeyForm,
    /// The header of a value.
    value_head: Vec<u8>,
    values: ValuePool,
}

impl Workload {
    /// # Panics
    /// The options were not checked: keys do not fit into their length.
    pub(super) fn new(options: &LoadOptions) -> Workload {
        let form = KeyForm::new(options.test.key_prefix(), options.keys, options.key_bytes).expect("the options were checked");
        Workload {
            test: options.test,
            reads_percent: u32::from(options.reads_percent()),
            draw: KeyDraw::new(options.distribution, options.keys),
            form,
            value_head: format!("${}\r\n", options.value_bytes).into_bytes(),
            values: ValuePool::new(options.value_bytes, options.seed),
        }
    }

    fn append_set(&self, key: u64, random: &mut StdRng, out: &mut BytesMut) {
        out.extend_from_slice(SET);
        self.append_pair(key, random, out);
    }

    fn append_get(&self, key: u64, out: &mut BytesMut) {
        out.extend_from_slice(GET);
        self.form.append(key, out);
    }

    fn append_pair(&self, key: u64, random: &mut StdRng, out: &mut BytesMut) {
        self.form.append(key, out);
        out.extend_from_slice(&self.value_head);
        out.extend_from_slice(self.values.draw(random));
        out.extend_from_slice(b"\r\n");
    }
}

/// The commands of one connection.
#[derive(Debug)]
pub(super) struct Generator {
    workload: Arc<Workload>,
    random: StdRng,
    /// How much of the next read of the mixed test has come together, in hundredths. Below 100.
    read_part: u32,
}

impl Generator {
    pub(super) fn new(workload: Arc<Workload>, seed: u64, connection: u32) -> Generator {
        // Streams of neighbouring seeds have nothing in common: the generator hashes its seed.
        let random = StdRng::seed_from_u64(seed.wrapping_add(u64::from(connection) << 32));
        Generator { workload, random, read_part: 0 }
    }

    /// Appends as many commands as there are numbers. The test `fill` writes the keys of these numbers, the others draw their keys.
    pub(super) fn append(&mut self, numbers: Range<u64>, out: &mut BytesMut) {
        let Generator { workload, random, read_part } = self;
        for number in numbers {
            match workload.test {
                Test::Fill => workload.append_set(number, random, out),
                Test::Set => workload.append_set(workload.draw.draw(random), random, out),
                Test::Get => workload.append_get(workload.draw.draw(random), out),
                Test::Incr => {
                    out.extend_from_slice(INCR);
                    workload.form.append(workload.draw.draw(random), out);
                }
                Test::Mset => {
                    out.extend_from_slice(MSET);
                    (0..MSET_KEYS).for_each(|_| workload.append_pair(workload.draw.draw(random), random, out));
                }
                Test::Mixed => {
                    let key = workload.draw.draw(random);
                    *read_part += workload.reads_percent;
                    if *read_part >= 100 {
                        *read_part -= 100;
                        workload.append_get(key, out);
                    } else {
                        workload.append_set(key, random, out);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use resp::{Authentication, Limits, RequestReader};

    use super::*;
    use crate::load::options::tests::options;

    /// The commands of one pipeline, as a server reads them.
    fn commands(line: &str, numbers: Range<u64>) -> Vec<Vec<Bytes>> {
        let workload = Arc::new(Workload::new(&options(line)));
        let mut reader = RequestReader::new();
        let count = numbers.end - numbers.start;
        Generator::new(workload, 3, 0).append(numbers, reader.buffer_mut());
        let limits = Limits { bulk_bytes_max: 999, arguments_max: 99, request_bytes_max: 9999, authentication: Authentication::Done };
        let all: Vec<_> = (0..count).map(|_| reader.next(&limits).expect("a request").expect("as many as numbers")).collect();
        assert!(reader.next(&limits).expect("nothing").is_none());
        all
    }

    fn names(commands: &[Vec<Bytes>]) -> String {
        let names: Vec<_> = commands.iter().map(|command| String::from_utf8_lossy(&command[0]).into_owned()).collect();
        names.join(" ")
    }

    #[test]
    fn each_test_sends_its_commands() {
        let check = |line: &str, name: &str, lengths: &[usize]| {
            for command in commands(line, 0..20) {
                assert_eq!(command[0], name.as_bytes(), "{line}");
                assert_eq!(command[1..].iter().map(Bytes::len).collect::<Vec<_>>(), lengths, "{line}");
            }
        };
        check("--test set", "SET", &[16, 100]);
        check("--test set --key-bytes 30 --value-bytes 0", "SET", &[30, 0]);
        check("--test get", "GET", &[16]);
        check("--test incr --keys 1", "INCR", &[20]);
        check("--test mset --value-bytes 7", "MSET", &[16, 7].repeat(10));
    }

    #[test]
    fn incr_has_keys_of_its_own() {
        assert_eq!(commands("--test incr --keys 1", 0..1)[0][1], b"counter:000000000000"[..]);
    }

    #[test]
    fn fill_writes_the_keys_of_its_numbers() {
        let keys: Vec<_> = commands("--test fill --keys 2000", 1998..2000).into_iter().map(|command| command[1].clone()).collect();
        assert_eq!(keys, ["key:000000001998", "key:000000001999"]);
    }

    #[test]
    fn reads_and_writes_are_mixed_evenly() {
        let check = |line: &str, expected: &str| assert_eq!(names(&commands(line, 0..4)), expected, "{line}");
        check("--test mixed", "SET GET SET GET");
        check("--test mixed --reads 75", "SET GET GET GET");
        check("--test mixed --reads 25", "SET SET SET GET");
        check("--test mixed --reads 0", "SET SET SET SET");
        check("--test mixed --reads 100", "GET GET GET GET");
    }

    #[test]
    fn connections_differ_and_seeds_repeat() {
        let workload = Arc::new(Workload::new(&options("--test get")));
        let bytes = |seed, connection| {
            let mut out = BytesMut::new();
            Generator::new(Arc::clone(&workload), seed, connection).append(0..10, &mut out);
            out
        };
        assert_eq!(bytes(1, 0), bytes(1, 0));
        assert_ne!(bytes(1, 0), bytes(1, 1));
        assert_ne!(bytes(1, 0), bytes(2, 0));
    }
}
