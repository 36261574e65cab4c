//! What a connection has been told about itself: database, protocol, authentication, mode of replies.
//! Only the connection's own commands change it. Names and the like, which other clients can see, stand in the registry.

use hmac::{Hmac, KeyInit, Mac};
use resp::Protocol;
use sha2::Sha256;

use crate::command::node_command::{Credentials, ReplyMode};
use crate::error::CommandError;

/// The only user.
const USER: &[u8] = b"default";

/// State of a connection that its commands change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Selected database.
    pub db: u8,
    /// Protocol of the replies.
    pub protocol: Protocol,
    /// Whether the client authenticated, or connected when there was no password.
    pub authenticated: bool,
    /// Whether the client sent READONLY.
    pub readonly: bool,
    /// What becomes of replies. `Skip` turns into `On` with the next one.
    pub replies: ReplyMode,
    /// Whether the connection ends when its replies are written.
    pub closing: bool,
}

impl Session {
    /// Of a new connection.
    #[must_use]
    pub fn new(password: Option<&str>) -> Self {
        Self {
            db: 0,
            protocol: Protocol::Resp2,
            authenticated: password.is_none(),
            readonly: false,
            replies: ReplyMode::On,
            closing: false,
        }
    }

    /// RESET: as new, also in that the client has to authenticate again.
    pub fn reset(&mut self, password: Option<&str>) {
        *self = Self::new(password);
    }

    /// Whether commands are refused until AUTH.
    #[must_use]
    pub fn must_authenticate(&self, password: Option<&str>) -> bool {
        !self.authenticated && password.is_some()
    }

    /// AUTH, and HELLO's option of that name.
    /// # Errors
    /// `WrongPassword`, or `NoPasswordConfigured`. The session stays as it was.
    pub fn authenticate(&mut self, credentials: &Credentials, password: Option<&str>) -> Result<(), CommandError> {
        let known = credentials.user.as_ref().is_none_or(|user| user.as_ref() == USER);
        match password {
            None if credentials.user.is_none() => return Err(CommandError::NoPasswordConfigured),
            // Without a password, the default user has any.
            None if known => {}
            Some(password) if known && same_secret(password.as_bytes(), &credentials.password.0) => {}
            Some(_) | None => return Err(CommandError::WrongPassword),
        }
        self.authenticated = true;
        Ok(())
    }

    /// Whether the next reply is sent.
    pub fn takes_reply(&mut self) -> bool {
        match self.replies {
            ReplyMode::On => true,
            ReplyMode::Off => false,
            ReplyMode::Skip => {
                self.replies = ReplyMode::On;
                false
            }
        }
    }
}

/// Whether two secrets are equal, in a time that tells nothing about where they differ, nor about the length of the first.
pub fn same_secret(expected: &[u8], given: &[u8]) -> bool {
    let tag = |secret: &[u8]| {
        let mut mac = Hmac::<Sha256>::new_from_slice(b"redraft requirepass").expect("HMAC takes keys of any length");
        mac.update(secret);
        mac
    };
    tag(given).verify_slice(&tag(expected).finalize().into_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::command::node_command::Secret;

    fn credentials(user: Option<&'static str>, password: &'static str) -> Credentials {
        Credentials { user: user.map(Bytes::from), password: Secret(Bytes::from(password)) }
    }

    #[test]
    fn authentication_follows_redis() {
        for (configured, user, given, expected) in [
            (Some("s"), None, "s", Ok(())),
            (Some("s"), Some("default"), "s", Ok(())),
            (Some("s"), None, "t", Err(CommandError::WrongPassword)),
            (Some("s"), None, "", Err(CommandError::WrongPassword)),
            (Some("s"), Some("bob"), "s", Err(CommandError::WrongPassword)),
            (None, None, "s", Err(CommandError::NoPasswordConfigured)),
            (None, Some("default"), "anything", Ok(())),
            (None, Some("bob"), "s", Err(CommandError::WrongPassword)),
        ] {
            let mut session = Session::new(configured);
            assert_eq!(session.must_authenticate(configured), configured.is_some());
            assert_eq!(session.authenticate(&credentials(user, given), configured), expected, "{configured:?} {user:?} {given}");
            assert_eq!(session.must_authenticate(configured), configured.is_some() && expected.is_err());
        }
    }

    #[test]
    fn a_client_that_came_before_the_password_stays() {
        let session = Session::new(None);
        assert!(!session.must_authenticate(Some("later")));
        let waiting = Session::new(Some("s"));
        assert!(!waiting.must_authenticate(None));
    }

    #[test]
    fn skip_concerns_one_reply() {
        let mut session = Session::new(None);
        session.replies = ReplyMode::Skip;
        assert_eq!([session.takes_reply(), session.takes_reply()], [false, true]);
        session.replies = ReplyMode::Off;
        assert_eq!([session.takes_reply(), session.takes_reply()], [false, false]);
    }

    #[test]
    fn reset_takes_everything_back() {
        let mut session = Session::new(Some("s"));
        session.authenticate(&credentials(None, "s"), Some("s")).expect("the password is right");
        session.db = 3;
        session.protocol = Protocol::Resp3;
        session.reset(Some("s"));
        assert_eq!(session, Session::new(Some("s")));
    }
}
