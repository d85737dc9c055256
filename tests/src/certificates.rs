//! Certificates for servers of tests: an authority of their own, and what it vouches for.

use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// An authority that nobody trusts who was not told its certificate.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// A new one.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate()?)? })
    }

    /// Its own certificate, in PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for these names and addresses, and its key.
    pub fn certify(&self, names: &[&str]) -> Result<(Certificate, KeyPair)> {
        let key = KeyPair::generate()?;
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        Ok((CertificateParams::new(names)?.signed_by(&key, &self.issuer)?, key))
    }

    /// Writes the authority, and a certificate for these names with its key, into `folder`.
    pub fn equip(&self, folder: &Path, names: &[&str]) -> Result<Files> {
        let (certificate, key) = self.certify(names)?;
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).map(|()| path)
        };
        Ok(Files {
            authority: write("ca.crt", self.pem())?,
            certificate: write("server.crt", certificate.pem())?,
            key: write("server.key", key.serialize_pem())?,
        })
    }
}

/// What a server with TLS is given, in PEM.
#[derive(Clone, Debug)]
pub struct Files {
    /// Whom to trust.
    pub authority: PathBuf,
    /// The certificate to show.
    pub certificate: PathBuf,
    /// The key to it.
    pub key: PathBuf,
}
