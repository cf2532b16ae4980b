//! The shield: an XDP program on uplinks, which only makes `from_uplink`'s drops cheaper. Here is where it runs, and how it gets
//! there: links that are pinned, one for each interface, with the mode in the pin's name.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::AsFd as _,
};

use super::{
    Dataplane, UplinkConfig,
    attach::{remove_link, update_pinned},
    error::DataplaneError,
    programs, sys,
};

/// Where the shield runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum XdpMode {
    /// Where it costs the packets that pass nothing: in drivers of hardware.
    #[default]
    Auto,
    /// In the driver of every uplink.
    Native,
    /// In the kernel's stack, which every interface can do.
    Generic,
    /// Nowhere.
    Off,
}

/// What kind of interface an uplink is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Device {
    /// A network card.
    Hardware,
    /// Ethernet that is made by this kernel or a hypervisor.
    Virtual,
    /// The shield would not understand its packets: they have no Ethernet header, or some belong to a VLAN whose tag the card may
    /// have taken off, and that need not be an uplink.
    Opaque,
}

/// How the shield runs at an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    Native,
    Generic,
}

impl Mode {
    const ALL: [Self; 2] = [Self::Native, Self::Generic];

    /// The first part of a pin's name.
    fn pin(self) -> &'static str {
        match self {
            Self::Native => "shield-native",
            Self::Generic => "shield-generic",
        }
    }

    fn program(self) -> &'static str {
        let [native, generic] = programs::SHIELDS;
        match self {
            Self::Native => native,
            Self::Generic => generic,
        }
    }

    fn flags(self) -> u32 {
        match self {
            Self::Native => sys::XDP_FLAGS_DRV_MODE,
            Self::Generic => sys::XDP_FLAGS_SKB_MODE,
        }
    }
}

impl XdpMode {
    /// How the shield is to run at a device.
    fn on(self, device: Device) -> Option<Mode> {
        match (self, device) {
            (Self::Off, _) | (_, Device::Opaque) => None,
            (Self::Native, _) | (Self::Auto, Device::Hardware) => Some(Mode::Native),
            (Self::Generic, _) => Some(Mode::Generic),
            (Self::Auto, Device::Virtual) => None,
        }
    }
}

/// The shields as they are.
pub(super) struct Shields {
    wanted: XdpMode,
    /// By ifindex: the interface's name, and how the shield runs there; not at all where the kernel refused.
    at: BTreeMap<u32, (String, Option<Mode>)>,
}

impl Shields {
    pub(super) fn new(wanted: XdpMode) -> Self {
        Self { wanted, at: BTreeMap::new() }
    }
}

impl Dataplane {
    /// Makes the shield run at these uplinks, and nowhere else. Where another XDP program runs already, it stays, and the shield does
    /// not run; `from_uplink` drops the same packets.
    pub(super) fn set_shields(&mut self, uplinks: &[UplinkConfig]) -> Result<(), DataplaneError> {
        let wanted: BTreeMap<&str, Mode> = uplinks
            .iter()
            .filter_map(|uplink| Some((uplink.name.as_str(), self.shields.wanted.on(uplink.device)?)))
            .collect();
        for (program, interface, pin) in self.pinned_links()? {
            let mode = Mode::ALL.into_iter().find(|mode| mode.pin() == program);
            if mode.is_some() && wanted.get(interface.as_str()).copied() != mode {
                remove_link(&pin)?;
            }
        }
        let indices: BTreeSet<u32> = uplinks.iter().map(|uplink| uplink.ifindex).collect();
        self.shields.at.retain(|ifindex, (name, _)| indices.contains(ifindex) && wanted.contains_key(name.as_str()));
        let mut result = Ok(());
        for uplink in uplinks {
            if let Some(&mode) = wanted.get(uplink.name.as_str())
                && self.shields.at.get(&uplink.ifindex).is_none_or(|(name, _)| *name != uplink.name)
            {
                result = result.and(self.attach_shield(uplink, mode));
            }
        }
        result
    }

    fn attach_shield(&mut self, uplink: &UplinkConfig, mode: Mode) -> Result<(), DataplaneError> {
        let name = &uplink.name;
        let pin = self.link_pin(mode.pin(), name);
        let program = self.programs.shield(mode.program())?;
        let failed =
            |source| DataplaneError::Program { program: mode.program(), action: format!("attached to {name}"), source };
        let program = program.fd().map_err(failed)?;
        let mut runs = update_pinned(&pin, program)?;
        if !runs {
            match sys::create_xdp_link(program.as_fd(), uplink.ifindex, mode.flags()) {
                Ok(link) => {
                    sys::pin(link.as_fd(), &pin).map_err(|source| DataplaneError::Pin { path: pin, source })?;
                    runs = true;
                }
                Err(error) if self.shields.wanted == XdpMode::Auto || is_occupied(&error) => {
                    tracing::warn!("the shield does not run on {name}: {error}");
                }
                Err(source) => return Err(DataplaneError::Shield { interface: name.clone(), source }),
            }
        }
        self.shields.at.insert(uplink.ifindex, (name.clone(), runs.then_some(mode)));
        Ok(())
    }
}

/// Does the error say that another XDP program runs there?
fn is_occupied(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EEXIST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_itself_the_shield_runs_in_hardware_only() {
        let on = |mode: XdpMode| [Device::Hardware, Device::Virtual, Device::Opaque].map(|device| mode.on(device));
        assert_eq!(on(XdpMode::Auto), [Some(Mode::Native), None, None]);
        assert_eq!(on(XdpMode::Native), [Some(Mode::Native), Some(Mode::Native), None]);
        assert_eq!(on(XdpMode::Generic), [Some(Mode::Generic), Some(Mode::Generic), None]);
        assert_eq!(on(XdpMode::Off), [None; 3]);
    }
}
