//! Addresses as options carry them: `HOST:PORT`, checked for form, not resolved.
//! The host is a name, an IPv4 address, or an IPv6 address in brackets; the port is 1 to 65535. Port 0 is refused, since other nodes and
//! clients must find the address again after a restart.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Longest host accepted: the limit of DNS names.
const HOST_BYTES_MAX: usize = 253;

/// Whether a text has the form of a host name or an IPv4 address.
pub(super) fn is_host_name(text: &str) -> bool {
    let may_be_in_it = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'-' || b == b'_';
    !text.is_empty() && text.len() <= HOST_BYTES_MAX && text.bytes().all(may_be_in_it)
}

/// A checked `HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// As written; an IPv6 address without its brackets.
    host: String,
    /// 1 to 65535.
    port: u16,
}

impl Address {
    /// Reads `HOST:PORT`; `None` when it has another form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        // `u16::from_str` would take a leading `+`.
        if !port.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
        let host = match host.strip_prefix('[') {
            Some(rest) => {
                let inner = rest.strip_suffix(']')?;
                inner.parse::<Ipv6Addr>().ok()?;
                inner
            }
            None => Some(host).filter(|host| is_host_name(host))?,
        };
        Some(Self { host: host.to_owned(), port })
    }

    /// Host name or IP address, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Port, 1 to 65535.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Whether the address can only be reached from this machine. Names other than `localhost` are taken as reachable from elsewhere.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.host.eq_ignore_ascii_case("localhost")
            || self.host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
            || self.host.parse::<Ipv6Addr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// Whether the address means "every interface", and so tells nobody where to connect.
    #[must_use]
    pub fn is_unspecified(&self) -> bool {
        self.host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_unspecified())
            || self.host.parse::<Ipv6Addr>().is_ok_and(|ip| ip.is_unspecified())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') { write!(f, "[{}]:{}", self.host, self.port) } else { write!(f, "{}:{}", self.host, self.port) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_host_and_port_are_taken() {
        for good in ["127.0.0.1:6379", "localhost:1", "[::1]:65535", "node-1.example_x.org:16379", "[::]:1"] {
            assert_eq!(Address::parse(good).map(|a| a.to_string()).as_deref(), Some(good));
        }
        let long = format!("{}:1", "a".repeat(254));
        for bad in ["", "6379", ":6379", "h:", "h:0", "h:65536", "h:+1", "h:-1", "::1:6379", "[::1:6379", "[x]:1", "a b:1", "a,b:1", &long]
        {
            assert_eq!(Address::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn loopback_and_unspecified_are_recognised() {
        let check = |text: &str, loopback: bool, unspecified: bool| {
            let address = Address::parse(text).expect("well formed");
            assert_eq!((address.is_loopback(), address.is_unspecified()), (loopback, unspecified), "{text}");
        };
        check("127.0.0.1:1", true, false);
        check("127.8.0.1:1", true, false);
        check("LocalHost:1", true, false);
        check("[::1]:1", true, false);
        check("0.0.0.0:1", false, true);
        check("[::]:1", false, true);
        check("10.0.0.1:1", false, false);
        check("node-1:1", false, false);
    }
}
