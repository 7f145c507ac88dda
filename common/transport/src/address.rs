//! Where a coordinator is, as a person writes it.

use std::net::SocketAddr;

use crate::TransportError;
use crate::identity::check_host;

/// Where a client dials, and who must answer.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    /// `host:port`, as it was given.
    pub(crate) text: String,
    /// The name that the coordinator's certificate must be for.
    pub(crate) server_name: String,
}

impl Address {
    /// `text` is `host:port`; the certificate must be for `server_name`, by default the host.
    pub(crate) fn new(text: String, server_name: Option<String>) -> Result<Self, TransportError> {
        let wrong = |why| TransportError::Address {
            address: text.clone(),
            why,
        };
        let host = host(&text).map_err(wrong)?;
        if let Some(name) = &server_name {
            check_host(name).map_err(|why| wrong(format!("its server name {why}")))?;
        }
        Ok(Self {
            server_name: server_name.unwrap_or(host),
            text,
        })
    }

    /// The first address that it stands for.
    pub(crate) async fn resolve(&self) -> Result<SocketAddr, TransportError> {
        let fail = |why: String| TransportError::Resolve {
            address: self.text.clone(),
            why,
        };
        let mut found = tokio::net::lookup_host(&self.text)
            .await
            .map_err(|error| fail(error.to_string()))?;
        found.next().ok_or_else(|| fail("no address".to_owned()))
    }
}

/// The host in `HOST:PORT`, or what is wrong with it.
pub(crate) fn host(address: &str) -> Result<String, String> {
    let (host, port) = address
        .rsplit_once(':')
        .ok_or("it has no port: write HOST:PORT")?;
    let number: u16 = port.parse().unwrap_or(0);
    if number == 0 {
        return Err(format!(
            "{port:?} is no port: write HOST:PORT, with a port from 1 to 65535"
        ));
    }
    let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    if inner.is_none() && host.contains(':') {
        return Err("write an IPv6 address as [ADDRESS]:PORT".to_owned());
    }
    let host = inner.unwrap_or(host);
    check_host(host)?;
    Ok(host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for (address, expected) in [
            ("localhost:4433", "localhost"),
            ("10.0.0.7:1", "10.0.0.7"),
            ("[::1]:4433", "::1"),
        ] {
            assert_eq!(host(address).as_deref(), Ok(expected));
        }
        for (address, part) in [
            ("", "no port"),
            ("127.0.0.1", "no port"),
            ("127.0.0.1:99999", "65535"),
            ("localhost:0", "65535"),
            ("localhost:", "65535"),
            (":4433", "no host"),
            ("two words:4433", "no host"),
            ("::1:4433", "[ADDRESS]:PORT"),
        ] {
            let why = host(address).unwrap_err();
            assert!(why.contains(part), "{address}: {why}");
        }
    }
}
