//! Who is who: a federation has a root of its own, which signs its coordinator's certificate and one
//! for each client. Nothing else is trusted, no public authority either.
//!
//! A client's name is a URI in its certificate, `fedistill://FEDERATION/client/NAME`. A bundle is one
//! PEM file with all that one party needs: its certificate, its private key, the root's certificate.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use fedistill_protocol::Name;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use time::{Duration, OffsetDateTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{Peer, TransportError};

const SCHEME: &str = "fedistill://";

/// A federation's root: who holds its key decides who takes part.
pub struct Authority {
    federation: Name,
    certificate: String,
    key: KeyPair,
}

/// What a party needs to prove who it is, and to know the others.
pub struct Identity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) root: CertificateDer<'static>,
    peer: Peer,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({:?})", self.peer)
    }
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self {
            chain: self.chain.clone(),
            key: self.key.clone_key(),
            root: self.root.clone(),
            peer: self.peer.clone(),
        }
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({})", self.federation)
    }
}

/// From when to when a certificate is valid.
#[derive(Clone, Copy, Debug)]
pub struct Validity {
    from: OffsetDateTime,
    to: OffsetDateTime,
}

impl Validity {
    /// The days for which a root is valid: a certificate that outlives its root proves nothing.
    pub const MOST_DAYS: u32 = 3650;

    /// From an hour ago, as clocks differ, for `days` days from now, at most [`Self::MOST_DAYS`].
    pub fn days(days: u32) -> Self {
        let now = OffsetDateTime::now_utc();
        Self {
            from: now - Duration::hours(1),
            to: now + Duration::days(days.min(Self::MOST_DAYS).into()),
        }
    }

    /// Over since an hour: what tests of expiry need.
    pub fn over() -> Self {
        let now = OffsetDateTime::now_utc();
        Self {
            from: now - Duration::hours(2),
            to: now - Duration::hours(1),
        }
    }
}

/// What rcgen reports can only be a bug or a lack of entropy; it has no path to blame.
fn generation(error: rcgen::Error) -> TransportError {
    TransportError::Identity {
        path: PathBuf::from("certificate"),
        why: format!("cannot be made: {error}"),
    }
}

fn bad(path: &Path, why: impl ToString) -> TransportError {
    TransportError::Identity {
        path: path.to_owned(),
        why: why.to_string(),
    }
}

impl Authority {
    /// A new root for `federation`, valid for ten years.
    ///
    /// # Errors
    /// No entropy.
    pub fn create(federation: Name) -> Result<Self, TransportError> {
        let key = KeyPair::generate().map_err(generation)?;
        let mut params = params(
            Validity::days(Validity::MOST_DAYS),
            &format!("fedistill root of {federation}"),
        );
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
            .subject_alt_names
            .push(uri(&format!("{SCHEME}{federation}"))?);
        let certificate = params.self_signed(&key).map_err(generation)?.pem();
        Ok(Self {
            federation,
            certificate,
            key,
        })
    }

    /// Reads the root that [`Self::save`] wrote to `folder`.
    ///
    /// # Errors
    /// A file that is missing or no root of ours.
    pub fn load(folder: &Path) -> Result<Self, TransportError> {
        let read = |name: &str| {
            let path = folder.join(name);
            let text = fs::read_to_string(&path)
                .map_err(|error| bad(&path, format!("cannot read it: {error}")))?;
            Ok::<_, TransportError>((path, text))
        };
        let (path, certificate) = read("root.pem")?;
        let der = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|error| bad(&path, format!("no certificate in it: {error}")))?;
        let federation =
            federation_of(&der).ok_or_else(|| bad(&path, "no root of a federation"))?;
        let (path, key) = read("root.key")?;
        let key =
            KeyPair::from_pem(&key).map_err(|error| bad(&path, format!("no key: {error}")))?;
        Ok(Self {
            federation,
            certificate,
            key,
        })
    }

    /// Writes `root.pem` and `root.key` (readable by the owner alone) to `folder`.
    ///
    /// # Errors
    /// Files that are there already or cannot be written.
    pub fn save(&self, folder: &Path) -> Result<(), TransportError> {
        write_new(&folder.join("root.key"), &self.key.serialize_pem(), true)?;
        write_new(&folder.join("root.pem"), &self.certificate, false)
    }

    /// The federation whose root this is.
    pub fn federation(&self) -> &Name {
        &self.federation
    }

    /// A coordinator's bundle, for clients that dial one of `hosts` (names or addresses).
    ///
    /// # Errors
    /// A host that can stand in no certificate.
    pub fn coordinator(&self, hosts: &[String], valid: Validity) -> Result<String, TransportError> {
        let mut params = params(
            valid,
            &format!("fedistill coordinator of {}", self.federation),
        );
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        for host in hosts {
            params.subject_alt_names.push(match host.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => {
                    check_host(host).map_err(|why| bad(Path::new("certificate"), why))?;
                    SanType::DnsName(host.as_str().try_into().map_err(generation)?)
                }
            });
        }
        self.bundle(params)
    }

    /// The bundle of client `name`.
    ///
    /// # Errors
    /// No entropy.
    pub fn client(&self, name: &Name, valid: Validity) -> Result<String, TransportError> {
        let mut params = params(valid, name.as_str());
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let path = format!("{SCHEME}{}/client/{name}", self.federation);
        params.subject_alt_names.push(uri(&path)?);
        self.bundle(params)
    }

    fn bundle(&self, params: CertificateParams) -> Result<String, TransportError> {
        let issuer = Issuer::from_ca_cert_pem(&self.certificate, &self.key).map_err(generation)?;
        let key = KeyPair::generate().map_err(generation)?;
        let certificate = params.signed_by(&key, &issuer).map_err(generation)?;
        Ok([
            certificate.pem(),
            key.serialize_pem(),
            self.certificate.clone(),
        ]
        .join("\n"))
    }
}

fn params(valid: Validity, common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = valid.from;
    params.not_after = valid.to;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params
}

fn uri(text: &str) -> Result<SanType, TransportError> {
    Ok(SanType::URI(text.try_into().map_err(generation)?))
}

/// Checks that `host` can stand in a certificate: a DNS name or an IP address.
///
/// # Errors
/// What is wrong with it, as one line.
pub fn check_host(host: &str) -> Result<(), String> {
    let name = ServerName::try_from(host);
    name.map(drop).map_err(|_| {
        format!(
            "{host:?} is no host: write a DNS name (a-z, 0-9, - and ., others as xn--) or an IP address"
        )
    })
}

/// Writes a file that must not exist yet; a secret one is readable by its owner alone.
///
/// # Errors
/// A file that is there already or cannot be written.
pub fn write_new(path: &Path, text: &str, secret: bool) -> Result<(), TransportError> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if secret {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let written = options
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| bad(path, format!("cannot write it: {error}")))
}

impl Identity {
    /// Reads a bundle.
    ///
    /// # Errors
    /// A file that cannot be read, lacks a certificate, the key or the root, or whose certificate
    /// is not valid now.
    pub fn load(path: &Path) -> Result<Self, TransportError> {
        let text = fs::read(path).map_err(|error| bad(path, format!("cannot read it: {error}")))?;
        let identity = Self::parse(path, &text)?;
        identity.check_time(path)?;
        Ok(identity)
    }

    /// The identity in a bundle's text, whatever its time; `path` is for messages.
    ///
    /// # Errors
    /// A text that lacks a certificate, the key or the root.
    pub fn parse(path: &Path, text: &[u8]) -> Result<Self, TransportError> {
        let certificates = CertificateDer::pem_slice_iter(text)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| bad(path, format!("a certificate cannot be read: {error}")))?;
        let [chain @ .., root] = certificates.as_slice() else {
            return Err(bad(path, "no certificates in it: it is no bundle"));
        };
        if chain.is_empty() {
            return Err(bad(
                path,
                "only one certificate in it: a bundle has its own and the root's",
            ));
        }
        let key = PrivatePkcs8KeyDer::from_pem_slice(text)
            .map_err(|error| bad(path, format!("no private key in it: {error}")))?;
        Ok(Self {
            peer: peer_of(&chain[0]).unwrap_or(Peer::Coordinator),
            chain: chain.to_vec(),
            key: key.into(),
            root: root.clone(),
        })
    }

    /// Whose identity this is.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The federation whose root signs for this identity; `None` where the root is none of ours.
    pub fn federation(&self) -> Option<Name> {
        federation_of(&self.root)
    }

    fn check_time(&self, path: &Path) -> Result<(), TransportError> {
        let own = &self.chain[0];
        let (_, certificate) = X509Certificate::from_der(own)
            .map_err(|error| bad(path, format!("its certificate cannot be read: {error}")))?;
        let validity = certificate.validity();
        let now = OffsetDateTime::now_utc();
        if now > validity.not_after.to_datetime() {
            let end = validity.not_after;
            let why =
                format!("its certificate expired on {end}: ask the coordinator for a new bundle");
            return Err(bad(path, why));
        }
        if now < validity.not_before.to_datetime() {
            let start = validity.not_before;
            let why = format!("its certificate begins on {start}: check this machine's clock");
            return Err(bad(path, why));
        }
        Ok(())
    }
}

/// The federation that a root's certificate names.
fn federation_of(root: &CertificateDer<'_>) -> Option<Name> {
    let mut uris = uris(root).into_iter();
    uris.find_map(|uri| uri.strip_prefix(SCHEME)?.parse().ok())
}

/// The client that a certificate names; `None` where it names none.
pub(crate) fn peer_of(certificate: &CertificateDer<'_>) -> Option<Peer> {
    uris(certificate).into_iter().find_map(|uri| {
        let (federation, name) = uri.strip_prefix(SCHEME)?.split_once("/client/")?;
        Some(Peer::Client {
            federation: federation.parse().ok()?,
            name: name.parse().ok()?,
        })
    })
}

fn uris(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
        return Vec::new();
    };
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let uri = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    };
    names.value.general_names.iter().filter_map(uri).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_signs_for_its_federation_and_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::create("clinic".parse().unwrap()).unwrap();
        authority.save(folder.path()).unwrap();
        assert!(
            authority.save(folder.path()).is_err(),
            "a root is never overwritten"
        );
        let authority = Authority::load(folder.path()).unwrap();
        assert_eq!(authority.federation().as_str(), "clinic");
        let name: Name = "ward-7".parse().unwrap();
        let path = folder.path().join("ward-7.pem");
        let bundle = authority.client(&name, Validity::days(1)).unwrap();
        write_new(&path, &bundle, true).unwrap();
        let identity = Identity::load(&path).unwrap();
        let federation = "clinic".parse().unwrap();
        assert_eq!(identity.federation().as_ref(), Some(&federation));
        assert_eq!(*identity.peer(), Peer::Client { federation, name });
        assert!(!format!("{identity:?}").contains("KEY"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            for secret in ["root.key", "ward-7.pem"] {
                let mode = fs::metadata(folder.path().join(secret))
                    .unwrap()
                    .permissions()
                    .mode();
                assert_eq!(mode & 0o777, 0o600, "{secret}");
            }
        }
    }

    #[test]
    fn no_number_of_days_is_too_large_and_hosts_are_checked() {
        let ten_years = Validity::days(Validity::MOST_DAYS);
        assert!(Validity::days(u32::MAX).to - ten_years.to < Duration::minutes(1));
        let authority = Authority::create("clinic".parse().unwrap()).unwrap();
        for good in ["localhost", "a.example.org", "10.0.0.7", "::1"] {
            assert_eq!(check_host(good), Ok(()));
            let bundle = authority.coordinator(&[good.to_owned()], Validity::days(u32::MAX));
            assert!(bundle.is_ok());
        }
        for wrong in ["", "bad host", "h\u{fc}tte", "a:4433", "-a"] {
            assert!(check_host(wrong).is_err(), "{wrong}");
            let error = authority.coordinator(&[wrong.to_owned()], Validity::days(1));
            let error = error.unwrap_err().to_string();
            assert!(error.contains(&format!("{wrong:?} is no host")), "{error}");
        }
    }

    #[test]
    fn a_bundle_that_is_none_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::create("clinic".parse().unwrap()).unwrap();
        let name: Name = "ward-7".parse().unwrap();
        let path = folder.path().join("ward-7.pem");
        let refusal = |text: &str| {
            fs::write(&path, text).unwrap();
            let error = Identity::load(&path).unwrap_err().to_string();
            assert!(error.contains("ward-7.pem"), "{error}");
            error
        };
        assert!(refusal("").contains("no certificates"));
        let whole = authority.client(&name, Validity::days(1)).unwrap();
        let key = whole.find("-----BEGIN PRIVATE").unwrap();
        assert!(refusal(&whole[..key]).contains("only one certificate"));
        let keyless = whole.replace("PRIVATE KEY", "NO KEY");
        assert!(refusal(&keyless).contains("no private key"));
        let expired = authority.client(&name, Validity::over()).unwrap();
        let error = refusal(&expired);
        assert!(
            error.contains("expired on") && error.contains("new bundle"),
            "{error}"
        );
        let error = Identity::load(&folder.path().join("none"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("cannot read it"), "{error}");
    }
}
