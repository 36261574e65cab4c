//! Part `scale`: the same commands over connections, sizes of values, and numbers of keys, on one node.
//! A command at a time per connection. Reported are throughput and processor time of the server per command; processor time says more where
//! generator and server share the processors. What an idle connection costs is the growth of resident memory over thousands of them, each of
//! which has asked for something before.
