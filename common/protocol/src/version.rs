use std::fmt;

/// A version of frames and messages. Both sides of a connection agree on one as they connect, by the
/// name of their protocol (ALPN, RFC 7301): the latest that both know. This one and the one before are
/// spoken, so that coordinator and clients may be updated one after the other, in any order.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Version(u8);

impl Version {
    /// What this side speaks where the other one can.
    pub const LATEST: Self = Self(4);
    /// The oldest that it still speaks.
    pub const OLDEST: Self = Self(3);
    /// All that it speaks, the latest first.
    pub const ALL: [Self; 2] = [Self::LATEST, Self::OLDEST];

    /// The version of this number, if it is spoken.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            3 | 4 => Some(Self(number)),
            _ => None,
        }
    }

    /// Its number, the first byte of a frame.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// The protocol's name in a handshake.
    pub const fn alpn(self) -> &'static [u8] {
        match self.0 {
            // It was named before versions were agreed on.
            3 => b"fedistill/1",
            _ => b"fedistill/4",
        }
    }

    /// The version of this name.
    pub fn from_alpn(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.alpn() == name)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_lead_back() {
        for version in Version::ALL {
            assert_eq!(Version::from_number(version.number()), Some(version));
            assert_eq!(Version::from_alpn(version.alpn()), Some(version));
        }
        assert!(Version::ALL.is_sorted_by(|a, b| a > b));
        let beyond = [Version::OLDEST.number() - 1, Version::LATEST.number() + 1];
        assert_eq!(beyond.map(Version::from_number), [None, None]);
        assert_eq!(Version::from_alpn(b"h3"), None);
    }
}
