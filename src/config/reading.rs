//! How each setting is read: from the text of the highest layer to a value within its range.
//!
//! Owns: the ranges, and what no setting says when none is given.
//! Never: takes a value that is out of its range.

use std::net::{SocketAddr, ToSocketAddrs};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::thread::available_parallelism;

use imgate_tls::Pair;

use super::layers::{Found, Layers};
use super::units::{parse_duration_ms, parse_size};
use super::{Accounts, DrainPlan, Durability, Error, Secret};
use crate::caller::{Origins, Readers};
use crate::fair::Networks;
use crate::log::LineFormat;
use crate::shard::DevicePolicy;
use crate::store::{Keep, Rule, Synchronous};
use crate::wire::Device;
use crate::{limits, log};

pub(super) fn durability(layers: &Layers) -> Result<Durability, Error> {
    parse(layers, "durability", Durability::Stored, |text| match text {
        "stored" => Some(Durability::Stored),
        "volatile" => Some(Durability::Volatile),
        _ => None,
    })
}

pub(super) fn synchronous(layers: &Layers) -> Result<Synchronous, Error> {
    parse(layers, "sqlite_synchronous", Synchronous::Full, |text| match text {
        "full" => Some(Synchronous::Full),
        "normal" => Some(Synchronous::Normal),
        _ => None,
    })
}

pub(super) fn drain(layers: &Layers) -> Result<DrainPlan, Error> {
    let time = |key, default, range: RangeInclusive<u64>| {
        parse(layers, key, default, |text| parse_duration_ms(text).filter(|ms| range.contains(ms)))
    };
    let deadline_ms = time("drain_deadline", limits::DRAIN_DEADLINE_MS_DEFAULT, 1_000..=DRAIN_MS_MAX)?;
    Ok(DrainPlan {
        deadline_ms,
        announce_ms: time("drain_announce", 0, 0..=deadline_ms / 2)?,
        spread_ms: time("drain_spread", limits::DRAIN_SPREAD_MS_DEFAULT.min(deadline_ms / 2), 0..=deadline_ms)?,
        return_after_ms: time("drain_return_after", limits::DRAIN_RETURN_AFTER_MS_DEFAULT, 0..=DRAIN_MS_MAX)?,
        return_rate: number(layers, "drain_return_rate", limits::DRAIN_RETURN_RATE_DEFAULT, 1..=1_000_000)?,
    })
}

/// 0: as much as the kernel says.
pub(super) fn send_buffer(layers: &Layers) -> Result<usize, Error> {
    parse(layers, "send_buffer", limits::SEND_BUFFER_DEFAULT, |text| {
        let bytes = usize::try_from(parse_size(text)?).ok()?;
        (bytes == 0 || (limits::SEND_BUFFER_MIN..=limits::SEND_BUFFER_MAX).contains(&bytes)).then_some(bytes)
    })
}

/// 0: most of what there is.
pub(super) fn memory_max(layers: &Layers) -> Result<u64, Error> {
    parse(layers, "memory_max", 0, |text| {
        parse_size(text)
            .filter(|bytes| *bytes == 0 || (limits::MEMORY_MAX_MIN..=limits::MEMORY_MAX_MAX).contains(bytes))
    })
}

pub(super) fn coalesce(layers: &Layers) -> Result<u32, Error> {
    parse(layers, "coalesce", limits::COALESCE_MS_DEFAULT, |text| {
        u32::try_from(parse_duration_ms(text)?).ok().filter(|ms| *ms <= limits::COALESCE_MS_MAX)
    })
}

pub(super) fn compression(layers: &Layers) -> Result<bool, Error> {
    parse(layers, "compression", false, |text| match text {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    })
}

pub(super) fn compression_min(layers: &Layers) -> Result<usize, Error> {
    size(layers, "compression_min", limits::COMPRESSION_MIN_BYTES_DEFAULT, COMPRESSION_MIN_RANGE)
}

/// A size of at most `most`.
pub(super) fn bytes(layers: &Layers, key: &'static str, default: u64, most: u64) -> Result<u64, Error> {
    parse(layers, key, default, |text| parse_size(text).filter(|bytes| *bytes <= most))
}

pub(super) fn upload_user_max(layers: &Layers) -> Result<u64, Error> {
    bytes(layers, "upload_user_max", limits::UPLOAD_USER_BYTES_DEFAULT, limits::UPLOAD_USER_BYTES_MAX)
}

/// 0: files that nothing refers to are kept.
pub(super) fn file_grace(layers: &Layers) -> Result<u64, Error> {
    parse(layers, "file_grace", limits::FILE_GRACE_MS, |text| {
        parse_duration_ms(text).filter(|ms| *ms == 0 || FILE_GRACE_RANGE_MS.contains(ms))
    })
}

/// How long and how much of a conversation is kept; 0: without end.
pub(super) fn keep(layers: &Layers) -> Result<Keep, Error> {
    Ok(Keep {
        age_ms: parse(layers, "keep_age", 0, |text| {
            parse_duration_ms(text).filter(|ms| *ms == 0 || KEEP_AGE_RANGE_MS.contains(ms))
        })?,
        count: parse(layers, "keep_count", 0, |text| {
            text.parse().ok().filter(|n| *n == 0 || KEEP_COUNT_RANGE.contains(n))
        })?,
    })
}

pub(super) fn accounts(layers: &Layers) -> Result<Accounts, Error> {
    let per_minute =
        |key, default| parse(layers, key, default, |text| text.parse().ok().filter(|n| *n <= limits::PER_MINUTE_MAX));
    Ok(Accounts {
        registration: parse(layers, "registration", true, |text| match text {
            "open" => Some(true),
            "closed" => Some(false),
            _ => None,
        })?,
        group_rule: parse(layers, "group_rule", Rule::Invitation, |text| match text {
            "invitation" => Some(Rule::Invitation),
            "approval" => Some(Rule::Approval),
            "open" => Some(Rule::Open),
            _ => None,
        })?,
        registrations_per_minute: per_minute("registrations_per_minute", limits::REGISTRATIONS_PER_MINUTE_DEFAULT)?,
        registrations_per_minute_all: per_minute("registrations_per_minute_all", 0)?,
        lookups_per_minute: per_minute("lookups_per_minute", limits::LOOKUPS_PER_MINUTE_DEFAULT)?,
        mobile_lookups_per_minute: per_minute("mobile_lookups_per_minute", limits::MOBILE_LOOKUPS_PER_MINUTE_DEFAULT)?,
    })
}

/// A policy as in `8,phone=1`: the total, then classes that are allowed fewer.
pub(super) fn parse_devices(text: &str) -> Option<DevicePolicy> {
    let number = |text: &str| text.trim().parse().ok().filter(|n| (1..=limits::SESSIONS_PER_USER_MAX).contains(n));
    let mut parts = text.split(',');
    let total = number(parts.next()?)?;
    let mut policy = DevicePolicy { total, of_class: [total; Device::ALL.len()] };
    let mut said = [false; Device::ALL.len()];
    for part in parts {
        let (class, most) = part.split_once('=')?;
        let class = Device::parse(class.trim()).filter(|_| !class.trim().is_empty())?;
        let place = Device::ALL.iter().position(|&other| other == class)?;
        if std::mem::replace(said.get_mut(place)?, true) {
            return None;
        }
        *policy.of_class.get_mut(place)? = number(most)?;
    }
    Some(policy)
}

/// The longest stop, and the longest wait for a restart.
pub(super) const DRAIN_MS_MAX: u64 = 10 * MINUTE_MS;
pub(super) const TOKEN_TTL_RANGE_MS: (u64, u64) = (MINUTE_MS, 3650 * DAY_MS);
pub(super) const TOKEN_TTL_DEFAULT_MS: u64 = 30 * DAY_MS;
pub(super) const HTTP_IDLE_RANGE_MS: (u64, u64) = (1000, 60 * MINUTE_MS);
/// What a client needs between the upload and the message, up to a year.
pub(super) const FILE_GRACE_RANGE_MS: RangeInclusive<u64> = limits::FILE_GRACE_MS_MIN..=365 * DAY_MS;
/// Shorter would take messages from readers that are only slow.
pub(super) const KEEP_AGE_RANGE_MS: RangeInclusive<u64> = 60 * MINUTE_MS..=36_500 * DAY_MS;
/// Fewer than one page, and a legacy page would not get what it missed.
pub(super) const KEEP_COUNT_RANGE: RangeInclusive<u64> = limits::REPLAY_MAX..=1_000_000_000;
/// A ping comes up to the jitter earlier, and never at once.
pub(super) const PING_RANGE_MS: (u64, u64) = (limits::PING_JITTER_MS + 1000, limits::PING_AFTER_MS_MAX);
pub(super) const CONNECTIONS_DEFAULT: usize = 1_000_000;
pub(super) const MINUTE_MS: u64 = 60_000;
pub(super) const DAY_MS: u64 = 24 * 60 * MINUTE_MS;

pub(super) fn text(layers: &Layers, key: &'static str, default: &str) -> Result<String, Error> {
    parse(layers, key, default.to_owned(), |text| (!text.is_empty()).then(|| text.to_owned()))
}

pub(super) fn parse<T>(
    layers: &Layers,
    key: &'static str,
    default: T,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<T, Error> {
    let Some(found) = layers.find(key) else { return Ok(default) };
    let given = found.one()?;
    read(given).ok_or_else(|| found.wrong(given))
}

/// A number in its range.
pub(super) fn number<T: FromStr + PartialOrd>(
    layers: &Layers,
    key: &'static str,
    default: T,
    range: RangeInclusive<T>,
) -> Result<T, Error> {
    parse(layers, key, default, |text| text.parse().ok().filter(|n| range.contains(n)))
}

/// A size in its range.
pub(super) fn size(
    layers: &Layers,
    key: &'static str,
    default: usize,
    range: RangeInclusive<usize>,
) -> Result<usize, Error> {
    parse(layers, key, default, |text| usize::try_from(parse_size(text)?).ok().filter(|n| range.contains(n)))
}

pub(super) const OUTBOX_RANGE: RangeInclusive<usize> = limits::OUTBOX_BYTES_MIN..=limits::OUTBOX_BYTES_MAX;
const COMPRESSION_MIN_RANGE: RangeInclusive<usize> = limits::COMPRESSION_MIN_BYTES_MIN..=limits::MESSAGE_BYTES_MAX;
pub(super) const OUTBOX_BUDGET_RANGE: RangeInclusive<usize> = limits::OUTBOX_BUDGET_MIN..=limits::OUTBOX_BUDGET_MAX;
pub(super) const HTTP_BUDGET_RANGE: RangeInclusive<usize> = limits::HTTP_BUDGET_MIN..=limits::HTTP_BUDGET_MAX;
pub(super) const INBOUND_BUDGET_RANGE: RangeInclusive<usize> = limits::INBOUND_BUDGET_MIN..=limits::INBOUND_BUDGET_MAX;
pub(super) const CONNECT_BURST_RANGE: RangeInclusive<u64> = 1..=limits::CONNECTIONS_MAX as u64;
pub(super) const UPLOADS_RANGE: RangeInclusive<u32> = 0..=limits::UPLOADS_PER_MINUTE_MAX;

/// A number where 0 means that there is no bound.
pub(super) fn count(layers: &Layers, key: &'static str, default: u32) -> Result<u32, Error> {
    parse(layers, key, default, |text| text.parse().ok().filter(|n| *n as usize <= limits::CONNECTIONS_MAX))
}

pub(super) fn duration(layers: &Layers, key: &'static str, (min, max): (u64, u64), default: u64) -> Result<u64, Error> {
    parse(layers, key, default, |text| parse_duration_ms(text).filter(|ms| (min..=max).contains(ms)))
}

/// The addresses of `listen`, `listen_proxy` and `listen_tls`, none of them twice. Whoever gives
/// only the last one wants no plain one.
pub(super) fn listen(layers: &Layers) -> Result<[Vec<SocketAddr>; 3], Error> {
    let listen = match layers.find("listen") {
        Some(found) if found.values.is_empty() => return Err(found.wrong("no address")),
        Some(found) => addresses(&found, &[])?,
        None => vec![SocketAddr::from(([0, 0, 0, 0], 8081))],
    };
    let proxied = layers.find("listen_proxy").map(|found| addresses(&found, &listen)).transpose()?.unwrap_or_default();
    let others: Vec<SocketAddr> = listen.iter().chain(&proxied).copied().collect();
    let tls = layers.find("listen_tls").map(|found| addresses(&found, &others)).transpose()?.unwrap_or_default();
    Ok([listen, proxied, tls])
}

/// The files of `tls_cert` and `tls_key`, in pairs: some, if there are addresses for them.
pub(super) fn tls_pairs(layers: &Layers) -> Result<Vec<Pair>, Error> {
    let [listen, certificates, keys] =
        ["listen_tls", "tls_cert", "tls_key"].map(|key| layers.find(key).filter(|found| !found.values.is_empty()));
    match (certificates, keys, listen) {
        (None, None, None) => Ok(Vec::new()),
        (None, None, Some(listen)) => Err(listen.wrong_unshown("it wants a tls_cert and a tls_key")),
        (Some(certificates), Some(keys), _) if are_pairs(certificates.values, keys.values) => {
            let pairs = certificates.values.iter().zip(keys.values);
            Ok(pairs.map(|(certificate, key)| Pair { certificate: certificate.into(), key: key.into() }).collect())
        }
        (Some(found), ..) | (None, Some(found), _) => {
            Err(found.wrong_unshown("tls_cert and tls_key want as many files, and at most 64"))
        }
    }
}

fn are_pairs(certificates: &[String], keys: &[String]) -> bool {
    certificates.len() == keys.len() && keys.len() <= imgate_tls::limits::CERTIFICATES_MAX
}

/// The servers of the bus. What they are called may hold a password, so it is not shown.
pub(super) fn cluster(layers: &Layers) -> Result<Vec<String>, Error> {
    let Some(found) = layers.find("cluster").filter(|found| !found.values.is_empty()) else { return Ok(Vec::new()) };
    let is_server = |url: &String| {
        ["nats://", "tls://"].iter().any(|scheme| url.starts_with(scheme))
            && url::Url::parse(url).is_ok_and(|url| url.has_host())
    };
    if found.values.len() > limits::BUS_SERVERS_MAX || !found.values.iter().all(is_server) {
        return Err(found.wrong_unshown("it wants URLs like nats://HOST:4222, at most 16"));
    }
    let store = layers.find("store").and_then(|found| found.values.first().cloned()).unwrap_or_default();
    if !["mysql:", "mariadb:"].iter().any(|scheme| store.starts_with(scheme)) {
        return Err(found.wrong_unshown("several gateways want a store that is a server: mysql://…"));
    }
    Ok(found.values.to_vec())
}

/// A part of a subject of NATS.
pub(super) fn cluster_name(text: &str) -> Option<String> {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
    ((1..=32).contains(&text.len()) && text.chars().all(fits)).then(|| text.to_owned())
}

pub(super) fn tls_own_records(layers: &Layers) -> Result<bool, Error> {
    parse(layers, "tls_records", true, |text| match text {
        "own" => Some(true),
        "rustls" => Some(false),
        _ => None,
    })
}

/// In seconds; 0: none.
pub(super) fn hsts(layers: &Layers) -> Result<u64, Error> {
    let range = MINUTE_MS..=3650 * DAY_MS;
    let ms = parse(layers, "hsts", 0, |text| parse_duration_ms(text).filter(|ms| *ms == 0 || range.contains(ms)))?;
    Ok(ms / 1000)
}

/// Addresses that are not yet among `others`, and together with them not too many.
pub(super) fn addresses(found: &Found<'_>, others: &[SocketAddr]) -> Result<Vec<SocketAddr>, Error> {
    if found.values.len() + others.len() > limits::LISTENERS_MAX {
        return Err(found.wrong(&format!("{} addresses", found.values.len())));
    }
    let mut addresses: Vec<SocketAddr> = Vec::with_capacity(found.values.len());
    for given in found.values {
        let address = address(given).ok_or_else(|| found.wrong(given))?;
        if address.port() != 0 && addresses.iter().chain(others).any(|other| *other == address) {
            return Err(found.wrong_unshown(&format!("`{given}` is given twice")));
        }
        addresses.push(address);
    }
    Ok(addresses)
}

pub(super) fn origins(layers: &Layers) -> Result<Origins, Error> {
    let Some(found) = layers.find("origins") else { return Ok(Origins::default()) };
    Origins::parse(found.values.iter().map(String::as_str)).map_err(|given| found.wrong(&given))
}

pub(super) fn cors_origins(layers: &Layers) -> Result<Readers, Error> {
    let Some(found) = layers.find("cors_origins") else { return Ok(Readers::default()) };
    Readers::parse(found.values.iter().map(String::as_str)).map_err(|given| found.wrong(&given))
}

pub(super) fn log_filter(layers: &Layers) -> Result<String, Error> {
    let Some(found) = layers.find("log") else { return Ok("info".to_owned()) };
    let given = found.one()?;
    log::check(given).map_err(|bad| found.wrong_unshown(&bad.to_string()))?;
    Ok(given.to_owned())
}

pub(super) fn log_format(layers: &Layers) -> Result<LineFormat, Error> {
    parse(layers, "log_format", LineFormat::Text, |text| match text {
        "text" => Some(LineFormat::Text),
        "json" => Some(LineFormat::Json),
        _ => None,
    })
}

pub(super) fn trusted_proxies(layers: &Layers) -> Result<Networks, Error> {
    let Some(found) = layers.find("trusted_proxies") else { return Ok(Networks::loopback()) };
    if matches!(found.values, [only] if only == "none") {
        return Ok(Networks::default());
    }
    if found.values.len() > limits::TRUSTED_PROXIES_MAX {
        return Err(found.wrong(&format!("{} networks", found.values.len())));
    }
    Networks::parse(found.values.iter().map(String::as_str)).map_err(|given| found.wrong(&given))
}

/// `127.0.0.1:8081`, `[::1]:8081`, `:8081` (every IPv4 address) or `localhost:8081`. A name is
/// looked up here, once, and stands for one address: an IPv4 address if it has any, because that is
/// what most clients of a name try as well.
pub(super) fn address(text: &str) -> Option<SocketAddr> {
    if let Some(port) = text.strip_prefix(':') {
        return Some(SocketAddr::from(([0, 0, 0, 0], port.parse().ok()?)));
    }
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let mut found: Vec<SocketAddr> = text.to_socket_addrs().ok()?.collect();
    found.sort_by_key(|address| !address.is_ipv4());
    found.first().copied()
}

pub(super) fn shards(layers: &Layers) -> Result<u16, Error> {
    let cores = available_parallelism().map_or(1, |n| u16::try_from(n.get()).unwrap_or(limits::SHARDS_MAX));
    let auto = cores.min(limits::SHARDS_MAX);
    parse(layers, "shards", auto, |text| match text {
        "auto" => Some(auto),
        number => number.parse().ok().filter(|n| (1..=limits::SHARDS_MAX).contains(n)),
    })
}

/// `secret`, or `secret_fallback`.
pub(super) fn secret(layers: &Layers, key: &'static str) -> Result<Option<Secret>, Error> {
    let Some(found) = layers.find(key) else { return Ok(None) };
    let given = found.one()?;
    if !(16..=1024).contains(&given.len()) {
        return Err(found.wrong_unshown("a secret has 16 to 1024 bytes"));
    }
    Ok(Some(Secret(given.to_owned())))
}
