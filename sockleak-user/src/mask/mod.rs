//! Addresses hidden behind pseudonyms, so that a report can be shown to others.
//!
//! It works on lines of JSON before anything else is made of them, so that every form of a report
//! says the same: `ip-1` is the same address everywhere. Ports, names and numbers stay.

mod addresses;

use std::{collections::HashMap, net::IpAddr};

use crate::render::quoted;

/// Addresses that get a pseudonym of their own.
const MOST: usize = 1 << 20;

/// Members whose text is never an address, though a version in it may look like one.
const PLAIN: [&str; 6] = ["kernel", "sockleak", "since", "ts", "type", "until"];

/// Gives every address a pseudonym, the same each time.
#[derive(Debug, Default)]
pub struct Masker {
    pseudonyms: HashMap<IpAddr, String>,
    /// Of this machine, of others.
    given: (u64, u64),
}

impl Masker {
    /// A line of JSON with its addresses masked; the name of the host, too. All else is as it
    /// was, byte for byte.
    pub fn line(&mut self, line: &str) -> String {
        let mut out = String::with_capacity(line.len());
        let mut rest = line;
        let mut member = "";
        while let Some(start) = rest.find('"') {
            let (before, text) = rest.split_at(start);
            out.push_str(before);
            let (literal, behind) = text.split_at(literal_length(text));
            rest = behind;
            if rest.trim_start().starts_with(':') {
                member = literal.trim_matches('"');
                out.push_str(literal);
            } else if member == "host" {
                out.push_str("\"host-1\"");
            } else if PLAIN.contains(&member) {
                out.push_str(literal);
            } else {
                match self.literal(literal) {
                    Some(masked) => out.push_str(&masked),
                    None => out.push_str(literal),
                }
            }
        }
        out.push_str(rest);
        out
    }

    /// Text with its addresses masked.
    pub fn text(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut done = 0;
        for found in addresses::find(text) {
            out.push_str(text.get(done..found.start).unwrap_or_default());
            out.push_str(&self.pseudonym(found.address));
            done = found.end;
        }
        out.push_str(text.get(done..).unwrap_or_default());
        out
    }

    /// `None` when nothing in it has to be masked.
    fn literal(&mut self, literal: &str) -> Option<String> {
        let text: String = serde_json::from_str(literal).ok()?;
        let masked = self.text(&text);
        (masked != text).then(|| quoted(&masked))
    }

    fn pseudonym(&mut self, address: IpAddr) -> String {
        let address = address.to_canonical();
        if address.is_unspecified() {
            return "any".to_owned();
        }
        if let Some(known) = self.pseudonyms.get(&address) {
            return known.clone();
        }
        if self.pseudonyms.len() >= MOST {
            return "ip-other".to_owned();
        }
        let name = if address.is_loopback() {
            self.given.0 += 1;
            format!("lo-{}", self.given.0)
        } else {
            self.given.1 += 1;
            format!("ip-{}", self.given.1)
        };
        self.pseudonyms.insert(address, name.clone());
        name
    }
}

/// Bytes of the string that `text` begins with, both quotes included.
fn literal_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;
    use crate::render::{Json, Renderer, fixtures};

    #[test]
    fn the_same_address_has_the_same_name() {
        let mut masker = Masker::default();
        for (text, masked) in [
            ("10.0.0.5:6379", "ip-1:6379"),
            (
                "no port towards 10.0.0.6:80, 10.0.0.5",
                "no port towards ip-2:80, ip-1",
            ),
            ("[::ffff:10.0.0.5]:6379", "[ip-1]:6379"),
            ("127.0.0.1:1 ::1", "lo-1:1 lo-2"),
            ("0.0.0.0:8080 [::]:8080", "any:8080 [any]:8080"),
            ("[fe80::1%2]:80 fe80::1.", "[ip-3%2]:80 ip-3."),
            ("ip-10-0-0-5.ec2.internal", "ip-ip-1.ec2.internal"),
            ("redis@10.0.0.5:6379.service", "redis@ip-1:6379.service"),
            ("\\x0a10.0.0.5\\u{202e}fe80::1", "\\x0aip-1\\u{202e}ip-3"),
            ("2001:db8:0:0:0:0:0:1, 2001:DB8::1", "ip-4, ip-4"),
            ("10.0.0.0/8", "ip-5/8"),
        ] {
            assert_eq!(masker.text(text), masked, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_stays() {
        let mut masker = Masker::default();
        for text in [
            "collector::connect+0x41 [collector]",
            "<alloc::vec::Vec<T> as Drop>::add",
            "core::ops::function::FnOnce::call_once",
            "(anonymous namespace)::fade",
            "6.12.107+deb13-cloud-amd64",
            "32768-60999",
            "2026-08-01T03:14:15.926Z",
            "widen net.ipv4.ip_local_port_range (now 32768 60999)",
            "256.1.1.1x",
            "libc.so.6",
            "0.25",
            "bad::<T>::face add::{{closure}}",
        ] {
            assert_eq!(masker.text(text), text);
        }
    }

    #[test]
    fn only_values_of_a_line_change() {
        let mut masker = Masker::default();
        let line = r#"{"ts":"1.2.3.4","kernel":"5.15.0-206.153.7.1.el8uek","host":"db1","dst":"10.0.0.5:80","n":[1.5,"a\n\"10.0.0.5\"\u202e"]}"#;
        assert_eq!(
            masker.line(line),
            r#"{"ts":"1.2.3.4","kernel":"5.15.0-206.153.7.1.el8uek","host":"host-1","dst":"ip-1:80","n":[1.5,"a\n\"ip-1\"\u202e"]}"#
        );
    }

    #[test]
    fn every_report_stays_one_that_can_be_read() {
        let mut masker = Masker::default();
        for (name, report) in fixtures::all() {
            let mut line = Vec::new();
            Json.render(&report, &mut line).expect("memory is enough");
            let line = String::from_utf8(line).expect("JSON is UTF-8");
            let masked = masker.line(&line);
            let value: serde_json::Value = serde_json::from_str(&masked).expect(name);
            assert_eq!(value["type"], report.body.kind());
            for literal in ["10.0.0.", "127.0.0.", "192.168.", "10-0-0-1"] {
                assert!(!masked.contains(literal), "{name}: {masked}");
            }
        }
    }

    fn address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<u32>().prop_map(|bits| Ipv4Addr::from_bits(bits).into()),
            any::<u128>().prop_map(|bits| Ipv6Addr::from_bits(bits).into()),
            any::<u16>()
                .prop_map(|low| Ipv6Addr::from_bits(0xfe80 << 112 | u128::from(low)).into()),
            any::<u32>().prop_map(|bits| Ipv4Addr::from_bits(bits).to_ipv6_mapped().into()),
        ]
    }

    proptest! {
        /// Whatever stands around it, in a line that was made by serialising.
        #[test]
        fn no_address_remains(
            addresses in proptest::collection::vec((address(), any::<u16>()), 1..6),
            around in proptest::collection::vec("[^0-9A-Za-z_:.-]{1,4}", 7),
        ) {
            let mut text = String::new();
            let mut sockets = Vec::new();
            for ((ip, port), between) in addresses.iter().zip(&around) {
                text.push_str(&crate::sanitize::printable(between.as_bytes()));
                text.push_str(&ip.to_string());
                text.push_str(&crate::sanitize::printable(between.as_bytes()));
                let socket = std::net::SocketAddr::new(*ip, *port).to_string();
                text.push_str(&socket);
                sockets.push(socket);
            }
            let line = serde_json::json!({"text": text, "dst": sockets}).to_string();
            let mut masker = Masker::default();
            let masked = masker.line(&line);
            for (ip, _) in &addresses {
                if !ip.is_unspecified() {
                    prop_assert!(!masked.contains(&ip.to_string()), "{ip} in {masked}");
                }
            }
            let value: serde_json::Value = serde_json::from_str(&masked).expect("JSON");
            for ((_, port), dst) in addresses.iter().zip(value["dst"].as_array().expect("a list")) {
                let ends = format!(":{port}");
                prop_assert!(dst.as_str().is_some_and(|dst| dst.ends_with(&ends)));
            }
            prop_assert_eq!(masker.line(&line), masked, "the names stay the same");
        }

        /// Directly behind letters, as in names that were made of an address.
        #[test]
        fn no_ipv4_address_remains_in_a_name(bits: u32, before in "[a-zA-Z/@=_-]{0,4}", after in "[a-zA-Z/:.]{0,4}") {
            let ip = Ipv4Addr::from_bits(bits).to_string();
            let text = format!("{before}{ip}{after}");
            let masked = Masker::default().text(&text);
            prop_assert!(!masked.contains(&ip), "{masked}");
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            let mut masker = Masker::default();
            let _ = masker.text(&text);
            let _ = masker.line(&text);
        }
    }
}
