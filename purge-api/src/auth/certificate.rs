//! The names in a client certificate that TLS has verified.

/// Returns the URI and DNS names of a certificate in DER; none if it cannot be read.
///
/// Only the subject alternative names count (RFC 9525 6.3): a common name is free text.
pub fn names_of(certificate: &rustls::pki_types::CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else {
        return Vec::new();
    };
    let names = certificate
        .valid_uri_names()
        .chain(certificate.valid_dns_names());
    names
        .take(NAMES_MAX)
        .filter(|name| name.len() <= NAME_BYTES_MAX)
        .map(ToOwned::to_owned)
        .collect()
}

/// Names that are looked at in one certificate.
const NAMES_MAX: usize = 16;

/// Bytes of a name: longer ones are nobody's.
const NAME_BYTES_MAX: usize = 512;
