use fedistill_protocol::Digest;
use serde::{Deserialize, Serialize};

/// What rounds are about. What they hand on to each other are rows of one transfer set, columns of classes in one order,
/// and notes of one method: of others it says nothing, or what is not so.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Subject {
    /// Digest of the transfer set, in hexadecimal digits.
    transfer: String,
    /// Names of the classes, in the order of columns.
    classes: Vec<String>,
    /// Name of the method, without variant and parameters: they may change from round to round.
    method: String,
}

impl Subject {
    /// Of rounds by this method, whose name may have a variant and parameters.
    pub fn new(transfer: Digest, classes: &[String], method: &str) -> Self {
        let family = method.split([':', ',']).next().unwrap_or(method);
        Self {
            transfer: transfer.to_string(),
            classes: classes.to_vec(),
            method: family.to_owned(),
        }
    }

    /// Holds rounds that are to come against those before them.
    ///
    /// # Errors
    /// What differs, in words for who runs the federation.
    pub fn check(&self, next: &Self) -> Result<(), String> {
        let short = |digest: &str| digest.get(..12).unwrap_or(digest).to_owned();
        let named = |classes: &[String]| classes.join(", ");
        // The method first: with some, labelled samples lie in the transfer set.
        let differs = if self.method != next.method {
            format!("method {}, not of {}", self.method, next.method)
        } else if self.classes != next.classes {
            let (these, those) = (named(&self.classes), named(&next.classes));
            format!("the classes {these}, not of {those}")
        } else if self.transfer != next.transfer {
            let (this, that) = (short(&self.transfer), short(&next.transfer));
            format!("transfer set {this}, not of {that}")
        } else {
            return Ok(());
        };
        Err(format!(
            "the rounds in the state folder are of {differs}: put back what they are of, or move the folder away to begin anew"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_go_on_with_what_those_before_were_of() {
        let classes = |names: [&str; 2]| names.map(str::to_owned).to_vec();
        let of = |set: &[u8], names, method| Subject::new(Digest::of(set), &classes(names), method);
        let before = of(b"set", ["cat", "dog"], "ds-fl:sa");
        let check = |next: Subject| before.check(&next);
        assert_eq!(
            check(of(b"set", ["cat", "dog"], "ds-fl:era,beta=2")),
            Ok(())
        );
        for (other, word) in [
            (of(b"another", ["cat", "dog"], "ds-fl:sa"), "transfer set"),
            (
                of(b"set", ["dog", "cat"], "ds-fl:sa"),
                "cat, dog, not of dog, cat",
            ),
            (of(b"set", ["cat", "dog"], "fd"), "method ds-fl, not of fd"),
        ] {
            let why = check(other).unwrap_err();
            assert!(why.contains(word), "{why}");
        }
    }
}
