//! Proofs that both ends of a connection know the cluster's secret, without showing it.
//! The answering end gives a random challenge to the connection; the asking end sends its request with a salt of its own and an HMAC over
//! label, challenge, salt and request; the reply carries an HMAC over another label, the request's proof and the reply. So neither can be
//! used twice, nor one for the other. Without a secret all proofs are empty, and an end that has one refuses an end that has none.
//! This proves who begins; what follows on a connection is protected by nothing (mTLS is a later option).
//! Invariant: proofs are compared in constant time.

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::wire::Sealed;

/// Bytes of a challenge and of a salt.
pub(super) const RANDOM_BYTES: usize = 32;

const REQUEST_LABEL: &[u8] = b"redraft peer request 1";
const REPLY_LABEL: &[u8] = b"redraft peer reply 1";

/// What a connection has to prove itself against.
pub(super) type Random = [u8; RANDOM_BYTES];

/// A proof is missing or wrong: the other end has another secret, or none, or this end has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadSecret;

/// The cluster's secret, ready for use; it cannot be printed.
#[derive(Clone)]
pub struct Seal {
    keyed: Option<Hmac<Sha256>>,
}

impl Seal {
    /// The seal of a secret, or of none.
    #[must_use]
    pub fn new(secret: Option<&[u8]>) -> Self {
        Self { keyed: secret.map(|secret| Hmac::new_from_slice(secret).expect("HMAC takes keys of any length")) }
    }

    pub(super) fn seal_request(&self, challenge: &Random, body: Bytes) -> Sealed {
        let salt = Bytes::copy_from_slice(&random());
        let proof = self.proof(&[REQUEST_LABEL, challenge, &salt, &body]);
        Sealed { body, salt, proof }
    }

    pub(super) fn open_request(&self, challenge: &Random, request: &Sealed) -> Result<Bytes, BadSecret> {
        // The parts are told apart by their lengths, so these must be fixed.
        if request.salt.len() != RANDOM_BYTES {
            return Err(BadSecret);
        }
        self.check(&[REQUEST_LABEL, challenge, &request.salt, &request.body], &request.proof)?;
        Ok(request.body.clone())
    }

    pub(super) fn seal_reply(&self, request: &Sealed, body: Bytes) -> Sealed {
        let proof = self.proof(&[REPLY_LABEL, &request.proof, &body]);
        Sealed { body, salt: Bytes::new(), proof }
    }

    pub(super) fn open_reply(&self, request: &Sealed, reply: &Sealed) -> Result<Bytes, BadSecret> {
        self.check(&[REPLY_LABEL, &request.proof, &reply.body], &reply.proof)?;
        Ok(reply.body.clone())
    }

    fn mac(&self, parts: &[&[u8]]) -> Option<Hmac<Sha256>> {
        let mut mac = self.keyed.clone()?;
        parts.iter().for_each(|part| mac.update(part));
        Some(mac)
    }

    fn proof(&self, parts: &[&[u8]]) -> Bytes {
        self.mac(parts).map_or_else(Bytes::new, |mac| Bytes::copy_from_slice(&mac.finalize().into_bytes()))
    }

    fn check(&self, parts: &[&[u8]], proof: &[u8]) -> Result<(), BadSecret> {
        match self.mac(parts) {
            Some(mac) => mac.verify_slice(proof).map_err(|_| BadSecret),
            None if proof.is_empty() => Ok(()),
            None => Err(BadSecret),
        }
    }
}

/// Bytes that nobody can foretell.
pub(super) fn random() -> Random {
    let mut bytes = Random::default();
    rand::fill(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_fits_one_secret_one_challenge_and_one_message() {
        let (seal, other, none) = (Seal::new(Some(b"secret")), Seal::new(Some(b"other")), Seal::new(None));
        let (challenge, later) = (random(), random());
        let request = seal.seal_request(&challenge, Bytes::from_static(b"hello"));
        let bad = |change: fn(&mut Sealed)| {
            let mut request = request.clone();
            change(&mut request);
            request
        };
        let cases = [
            (&seal, &challenge, request.clone(), true),
            (&seal, &later, request.clone(), false),
            (&other, &challenge, request.clone(), false),
            (&none, &challenge, request.clone(), false),
            (&seal, &challenge, none.seal_request(&challenge, Bytes::from_static(b"hello")), false),
            (&none, &challenge, none.seal_request(&challenge, Bytes::from_static(b"hello")), true),
            (&seal, &challenge, bad(|request| request.body = Bytes::from_static(b"hellp")), false),
            (&seal, &challenge, bad(|request| request.proof = request.proof.slice(..31)), false),
            (&seal, &challenge, bad(|request| request.proof = Bytes::new()), false),
            // A byte moved from the body to the salt.
            (
                &seal,
                &challenge,
                bad(|request| {
                    request.salt = [&request.salt[..], b"h"].concat().into();
                    request.body = Bytes::from_static(b"ello");
                }),
                false,
            ),
        ];
        for (number, (seal, challenge, request, passes)) in cases.iter().enumerate() {
            assert_eq!(seal.open_request(challenge, request).is_ok(), *passes, "case {number}");
        }

        let reply = seal.seal_reply(&request, Bytes::from_static(b"welcome"));
        let again = seal.seal_request(&challenge, Bytes::from_static(b"hello"));
        assert_eq!(seal.open_reply(&request, &reply), Ok(Bytes::from_static(b"welcome")));
        assert_eq!(seal.open_reply(&again, &reply), Err(BadSecret), "a reply fits one request");
        assert_eq!(other.open_reply(&request, &reply), Err(BadSecret));
        assert_eq!(seal.open_reply(&request, &request), Err(BadSecret), "a request is no reply");
        assert_eq!(seal.open_reply(&request, &none.seal_reply(&request, Bytes::new())), Err(BadSecret));
    }
}
