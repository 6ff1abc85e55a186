//! Whether an address can be one: told before anything runs, and with what to write instead.

use std::net::Ipv6Addr;

use tidemill_operators::SourceError;

/// Refuses what is no `host:port`. Whether there is such a host is found out when the query connects.
pub(super) fn check(address: &str) -> Result<(), SourceError> {
    let wrong = |what: &str, write: String| {
        Err(SourceError::Setup(format!(
            "`{address}` is no address to connect to: {what}; write host and port, like `{write}`"
        )))
    };
    if let Some((scheme, rest)) = address.split_once("://") {
        let rest = rest.split('/').next().unwrap_or_default();
        let write = if check(rest).is_ok() { rest } else { EXAMPLE };
        return wrong(&format!("lines come over plain TCP, without `{scheme}://`"), write.to_owned());
    }
    if address.parse::<Ipv6Addr>().is_ok() {
        return wrong("an IPv6 address with a port needs brackets", format!("[{address}]:9999"));
    }
    match address.rsplit_once(':') {
        _ if address.trim().is_empty() => wrong("it is empty", EXAMPLE.to_owned()),
        None => wrong("it has no port", format!("{address}:9999")),
        Some((host, "")) => wrong("it has no port", format!("{host}:9999")),
        Some((_, port)) if port.ends_with(']') => wrong("it has no port", format!("{address}:9999")),
        Some(("", port)) => wrong("it has no host", format!("localhost:{port}")),
        Some((host, port)) => match port.parse::<u16>() {
            Ok(0) => wrong("port 0 accepts no connections", format!("{host}:9999")),
            Ok(_) => Ok(()),
            Err(_) => wrong(
                &format!("`{port}` is no port, which is a number from 1 to 65535"),
                format!("{host}:9999"),
            ),
        },
    }
}

const EXAMPLE: &str = "localhost:9999";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_cannot_be_one_is_told_with_what_to_write() {
        for (address, what, write) in [
            ("localhost", "no port", "`localhost:9999`"),
            ("localhost:", "no port", "`localhost:9999`"),
            ("", "empty", "`localhost:9999`"),
            (":9999", "no host", "`localhost:9999`"),
            ("localhost:http", "`http` is no port", "`localhost:9999`"),
            ("localhost:70000", "`70000` is no port", "`localhost:9999`"),
            ("localhost:0", "port 0", "`localhost:9999`"),
            ("::1", "brackets", "`[::1]:9999`"),
            ("[::1]", "no port", "`[::1]:9999`"),
            ("tcp://example.org:7/x", "without `tcp://`", "`example.org:7`"),
            ("http://example.org", "without `http://`", "`localhost:9999`"),
        ] {
            let error = check(address).unwrap_err();
            assert!(matches!(&error, SourceError::Setup(_)), "{error:?}");
            let error = error.to_string();
            assert!(error.contains(what) && error.ends_with(write), "{error}");
        }
        for address in
            ["localhost:9999", "127.0.0.1:1", "[::1]:65535", "[fe80::1%eth0]:80", "example.org:443"]
        {
            check(address).unwrap();
        }
    }
}
