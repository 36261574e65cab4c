//! Part `dataset`: one node whose data is several times its memory budget.
//! Data is written once in random order, and then asked for: uniformly, zipfian, and half reads half writes. Besides speed this tells what
//! the data costs: memory; bytes written to the disk per byte of user data (keys and values), with all that compactions write until they
//! come to rest; bytes on the disk per byte of user data.
//! The budget is given to the node as block cache and memtables. It does not bound the kernel's page cache, which makes reads of data that
//! is larger than the budget and smaller than the machine's memory cheap: the table says how large both are.
