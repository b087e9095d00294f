//! Who has which name on one network. It does no I/O.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Ends of the names by which addresses are asked for. Source: RFC 1035 3.5, RFC 3596 2.5.
const IPV4_ZONE: &str = ".in-addr.arpa";
const IPV6_ZONE: &str = ".ip6.arpa";

/// The names of one network. All are lower case, without a dot at the end.
#[derive(Debug, Default)]
pub struct Names {
    /// What the network itself is called.
    network: String,
    by_holder: HashMap<String, Host>,
    /// Name -> who has it with which addresses, in the order in which they came.
    by_name: HashMap<String, Vec<(String, IpAddr)>>,
    by_address: HashMap<IpAddr, String>,
}

#[derive(Debug)]
struct Host {
    names: Vec<String>,
    addresses: Vec<IpAddr>,
}

impl Names {
    pub fn new(network: &str) -> Self {
        Self { network: network.to_ascii_lowercase(), ..Self::default() }
    }

    /// The holder has these names and addresses, whatever it had. The first name is the one that its addresses have.
    pub fn put(&mut self, holder: &str, names: &[String], addresses: &[IpAddr]) {
        self.remove(holder);
        let mut own: Vec<String> = Vec::new();
        for name in names {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            if !name.is_empty() && !own.contains(&name) {
                own.push(name);
            }
        }
        for name in &own {
            let held = self.by_name.entry(name.clone()).or_default();
            held.extend(addresses.iter().map(|address| (holder.to_owned(), *address)));
        }
        if let Some(first) = own.first() {
            self.by_address.extend(addresses.iter().map(|address| (*address, first.clone())));
        }
        self.by_holder.insert(holder.to_owned(), Host { names: own, addresses: addresses.to_vec() });
    }

    /// The holder has none. Idempotent.
    pub fn remove(&mut self, holder: &str) {
        let Some(host) = self.by_holder.remove(holder) else { return };
        for name in &host.names {
            if let Some(held) = self.by_name.get_mut(name) {
                held.retain(|(other, _)| other != holder);
                if held.is_empty() {
                    self.by_name.remove(name);
                }
            }
        }
        for address in &host.addresses {
            self.by_address.remove(address);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.by_holder.is_empty()
    }

    /// The addresses of a name, or of `<name>.<network>`; None if nobody has it.
    pub fn addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
        let within = || name.strip_suffix(self.network.as_str())?.strip_suffix('.');
        let held = self.by_name.get(name).or_else(|| self.by_name.get(within()?))?;
        Some(held.iter().map(|(_, address)| *address).collect())
    }

    /// The name of an address, with the network's.
    pub fn name(&self, address: IpAddr) -> Option<String> {
        Some(format!("{}.{}", self.by_address.get(&address)?, self.network))
    }
}

/// The address that a name such as `2.0.9.10.in-addr.arpa` asks for.
pub fn asked_address(name: &str) -> Option<IpAddr> {
    if let Some(digits) = name.strip_suffix(IPV4_ZONE) {
        let mut octets = [0; 4];
        let mut parts = digits.split('.');
        for octet in octets.iter_mut().rev() {
            *octet = parts.next()?.parse().ok()?;
        }
        return parts.next().is_none().then(|| Ipv4Addr::from(octets).into());
    }
    let mut value: u128 = 0;
    let mut count = 0;
    for digit in name.strip_suffix(IPV6_ZONE)?.split('.').rev() {
        if digit.len() != 1 || count == 32 {
            return None;
        }
        value = value << 4 | u128::from(u8::from_str_radix(digit, 16).ok()?);
        count += 1;
    }
    (count == 32).then(|| Ipv6Addr::from(value).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn names_and_aliases_are_found_alone_and_with_their_networks() {
        let (one, two) = ("10.9.0.2".parse().unwrap(), "10.9.0.3".parse().unwrap());
        let mut names = Names::new("Back.End");
        names.put("a", &texts(&["Web", "www", "web"]), &[one, "fd00::2".parse().unwrap()]);
        names.put("b", &texts(&["web-2", "www"]), &[two]);
        assert_eq!(names.addresses("web"), Some(vec![one, "fd00::2".parse().unwrap()]));
        assert_eq!(names.addresses("web-2.back.end"), Some(vec![two]));
        assert_eq!(names.addresses("www").map(|found| found.len()), Some(3));
        assert_eq!(names.addresses("back.end"), None);
        assert_eq!(names.addresses(".back.end"), None);
        assert_eq!(names.name(two).as_deref(), Some("web-2.back.end"));
        names.remove("a");
        assert_eq!(names.addresses("web"), None);
        assert_eq!(names.addresses("www"), Some(vec![two]));
        assert_eq!(names.name(one), None);
        names.put("b", &texts(&["other"]), &[one]);
        assert_eq!((names.addresses("www"), names.name(two)), (None, None));
        names.remove("b");
        names.remove("b");
        assert!(names.is_empty() && names.by_name.is_empty() && names.by_address.is_empty());
    }

    #[test]
    fn addresses_are_read_out_of_the_names_that_ask_for_them() {
        assert_eq!(asked_address("2.0.9.10.in-addr.arpa"), Some("10.9.0.2".parse().unwrap()));
        let zeros = "0.".repeat(27);
        assert_eq!(asked_address(&format!("2.{zeros}0.0.d.f.ip6.arpa")), Some("fd00::2".parse().unwrap()));
        for wrong in
            ["0.9.10.in-addr.arpa", "1.2.0.9.10.in-addr.arpa", "a.ip6.arpa", "256.0.9.10.in-addr.arpa", "web"]
        {
            assert_eq!(asked_address(wrong), None, "{wrong}");
        }
        assert_eq!(asked_address(&format!("{}2.{zeros}0.0.d.f.ip6.arpa", "1.")), None);
    }
}
