//! What a connection by TLS needs. That certificates are verified cannot be turned off.

use super::config::RedisConfig;
use redis::{ClientTlsConfig, ErrorKind, RedisError, RedisResult, TlsCertificates};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::path::Path;

/// Returns whom to trust and what to show: read from the files anew, since certificates are renewed.
/// None where it is not by TLS.
///
/// # Errors
/// When a file cannot be read, or has not in it what it should.
pub(super) async fn certificates(config: &RedisConfig) -> RedisResult<Option<TlsCertificates>> {
    if !config.is_encrypted() {
        return Ok(None);
    }
    // The second time there is one already.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let root_cert = match &config.ca {
        Some(file) => Some(pem("redis.ca", file, check_roots).await?),
        None => None,
    };
    let client_tls = match (&config.certificate, &config.key) {
        (Some(certificate), Some(key)) => Some(ClientTlsConfig {
            client_cert: pem("redis.certificate", certificate, check_certificates).await?,
            client_key: pem("redis.key", key, check_key).await?,
        }),
        _ => None,
    };
    Ok(Some(TlsCertificates {
        client_tls,
        root_cert,
    }))
}

async fn pem(
    key: &str,
    file: &Path,
    check: fn(&[u8]) -> Result<(), String>,
) -> RedisResult<Vec<u8>> {
    let bytes = tokio::fs::read(file).await;
    let bytes = bytes.map_err(|error| format!("the file cannot be read: {error}"));
    let checked = bytes.and_then(|bytes| check(&bytes).map(|()| bytes));
    checked.map_err(|why| {
        let why = format!("{key}: {}: {why}", file.display());
        RedisError::from((ErrorKind::InvalidClientConfig, "a file of TLS", why))
    })
}

fn check_certificates(pem: &[u8]) -> Result<(), String> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err("expected certificates as PEM".into()),
        Ok(_) => Ok(()),
        Err(error) => Err(format!("expected certificates as PEM: {error}")),
    }
}

fn check_roots(pem: &[u8]) -> Result<(), String> {
    check_certificates(pem)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem).flatten() {
        let added = roots.add(certificate);
        added.map_err(|error| format!("expected certificates as PEM: {error}"))?;
    }
    Ok(())
}

fn check_key(pem: &[u8]) -> Result<(), String> {
    // What exactly is wrong with it is not said: it is a secret.
    let key = PrivateKeyDer::from_pem_slice(pem);
    key.map_or_else(
        |_| Err("expected a private key as PEM, without a passphrase".into()),
        |_| Ok(()),
    )
}

/// Tells whether TLS failed for what the other side is, or takes this one for.
pub(super) fn is_distrust(error: &RedisError) -> bool {
    // The library that verifies says so; its own error cannot be reached through that of Redis'.
    let text = error.to_string();
    text.contains("invalid peer certificate") || text.contains("received fatal alert")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_wrong_with_a_file_is_said_with_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("some.pem");
        let config = |keys: &str| -> RedisConfig {
            let keys = keys.replace("FILE", &file.display().to_string());
            toml::from_str(&format!("tls = true\n{keys}")).unwrap()
        };
        let error = |config: RedisConfig| async move {
            let error = certificates(&config).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidClientConfig);
            error.to_string()
        };
        let ca = config("ca = 'FILE'");
        let said = error(ca.clone()).await;
        assert!(
            said.contains("redis.ca: ") && said.contains("some.pem"),
            "{said}"
        );
        assert!(said.contains("cannot be read"), "{said}");
        for bad in [
            "",
            "text",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            std::fs::write(&file, bad).unwrap();
            let said = error(ca.clone()).await;
            assert!(
                said.contains("redis.ca: ") && said.contains("expected certificates"),
                "{said}"
            );
            let said = error(config("certificate = 'FILE'\nkey = 'FILE'")).await;
            assert!(
                said.contains("redis.certificate: ") || said.contains("redis.key: "),
                "{said}"
            );
        }
        let none = certificates(&config("")).await.unwrap().unwrap();
        assert!(none.root_cert.is_none() && none.client_tls.is_none());
        assert!(
            certificates(&RedisConfig::default())
                .await
                .unwrap()
                .is_none()
        );
    }
}
