//! Redis at the start: waited for while it is not there, and refused when it cannot be the one.

use super::{Link, config::RedisConfig, tls::is_distrust};
use rand::Rng;
use redis::{ErrorKind, FromRedisValue, RedisError};
use std::time::Duration;

/// The oldest version that has all that is used.
const OLDEST: u32 = 7;

/// The longest pause between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// Why a Redis is not used, whatever one waits.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It refuses the user or the password.
    #[error("Redis at {0} refuses the password ({1}): {2}")]
    Refused(String, &'static str, String),
    /// It lets the user in, and forbids what is needed.
    #[error("Redis at {0} does not permit the user a command that is needed ({1}): {2}")]
    Forbidden(String, &'static str, String),
    /// The certificates of one side are not trusted by the other.
    #[error(
        "Redis at {0} cannot be trusted, or does not trust this host (redis.ca, redis.certificate, redis.key): {1}"
    )]
    Distrust(String, String),
    /// A file that is needed cannot be used.
    #[error("Redis at {0} cannot be connected to: {1}")]
    Misconfigured(String, String),
    /// It is too old.
    #[error("Redis at {0} has the version {1}; version {OLDEST} or later is needed, or Valkey")]
    TooOld(String, String),
}

/// Returns when Redis answers. Says once that it is waited for.
///
/// # Errors
/// When it answers that it is not to be used, by this host or at all.
pub async fn wait_for(config: &RedisConfig) -> Result<(), Unusable> {
    let (place, keys) = (config.place(), config.keys());
    let mut waits = false;
    loop {
        let error = match version(config).await {
            Ok(version) => {
                if is_too_old(&version) {
                    return Err(Unusable::TooOld(place, version));
                }
                if waits {
                    tracing::info!(redis = place, "Redis is there");
                }
                return Ok(());
            }
            Err(error) if is_refusal(&error) => {
                return Err(Unusable::Refused(
                    place,
                    config.login_keys(),
                    error.to_string(),
                ));
            }
            Err(error) if error.code() == Some("NOPERM") => {
                return Err(Unusable::Forbidden(
                    place,
                    config.login_keys(),
                    error.to_string(),
                ));
            }
            Err(error) if is_distrust(&error) => {
                return Err(Unusable::Distrust(place, error.to_string()));
            }
            Err(error) if error.kind() == ErrorKind::InvalidClientConfig => {
                return Err(Unusable::Misconfigured(place, error.to_string()));
            }
            Err(error) => error,
        };
        if !waits {
            waits = true;
            tracing::warn!(
                redis = place, %error,
                "Redis is not there; waiting for it, and not ready before ({keys})"
            );
        }
        let pause = rand::rng().random_range(PAUSE / 4..PAUSE);
        tokio::time::sleep(pause).await;
    }
}

/// Returns what is wrong with a version, if anything is.
#[must_use]
pub fn version_problem(version: &str) -> Option<String> {
    is_too_old(version).then(|| format!("version {OLDEST} or later is needed, or Valkey"))
}

fn is_too_old(version: &str) -> bool {
    let major = version
        .split('.')
        .next()
        .and_then(|major| major.parse().ok());
    major.is_some_and(|major: u32| major < OLDEST)
}

async fn version(config: &RedisConfig) -> Result<String, RedisError> {
    let link = Link::open_single(config).await?;
    let mut info = redis::cmd("INFO");
    info.arg("server");
    let text = String::from_redis_value(link.run(&info).await?)?;
    // Valkey says here which Redis it is like.
    let version = text
        .lines()
        .find_map(|line| line.strip_prefix("redis_version:"));
    Ok(version.unwrap_or_default().trim().to_owned())
}

fn is_refusal(error: &RedisError) -> bool {
    let code = error.code().unwrap_or_default();
    error.kind() == ErrorKind::AuthenticationFailed || matches!(code, "WRONGPASS" | "NOAUTH")
}
