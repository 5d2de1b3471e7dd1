//! What a session speaks: the legacy protocol or `imgate.v2`.
//!
//! Owns: the differences between the two, as data.

/// Whether a legacy session gets its own group messages back on the connection that sent them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Echo {
    /// IMChat's page shows nothing until the echo comes.
    Groups,
    /// fastIM's page shows its own message itself.
    None,
}

/// The protocol of one session, chosen at the handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    /// fastIM's and IMChat's pages: a welcome text, chat messages, and nothing else that they could
    /// misread.
    Legacy(Echo),
    /// Our own protocol: acks, refusals, sync.
    V2,
    /// simple-chatroom's `/chatroom`: what is said, and nothing else. A guest of the one volatile
    /// room; never closed for being slow or silent.
    Room,
}

impl Profile {
    /// Its place among the labels of metrics ([`crate::metrics::names::PROFILE_LABELS`]).
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Legacy(_) => 0,
            Self::V2 => 1,
            Self::Room => 2,
        }
    }
}

/// The class of device that a session runs on (`?device=`), for the policy of several devices.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum Device {
    /// A phone.
    Phone,
    /// A tablet.
    Pad,
    /// A desktop program.
    Desktop,
    /// A browser; also clients that do not say.
    #[default]
    Web,
}

impl Device {
    /// Every class.
    pub const ALL: [Self; 4] = [Self::Phone, Self::Pad, Self::Desktop, Self::Web];

    /// Its name, as `?device=` has it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Phone => "phone",
            Self::Pad => "pad",
            Self::Desktop => "desktop",
            Self::Web => "web",
        }
    }

    /// The device that `?device=` names, or `None` for a name that we do not know; without a name
    /// it is [`Device::Web`].
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "phone" => Some(Self::Phone),
            "pad" => Some(Self::Pad),
            "desktop" => Some(Self::Desktop),
            "web" | "" => Some(Self::Web),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_by_name() {
        for (name, device) in
            [("phone", Device::Phone), ("pad", Device::Pad), ("desktop", Device::Desktop), ("web", Device::Web)]
        {
            assert_eq!((Device::parse(name), device.label()), (Some(device), name));
        }
        assert_eq!(Device::parse(""), Some(Device::default()));
        assert_eq!(Device::parse("Phone"), None);
    }
}
