//! What a rule says about live MPDs.
//!
//! Who calls it: fills of MPDs. Deliberately not here: how it is written (`config`).

/// How live MPDs of some hosts and paths are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DashRule {
    /// Which clock they name.
    pub clock: MpdClock,
}

/// Which clock live MPDs name to players (LD-13).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MpdClock {
    /// First the one of the node that the player talks to.
    #[default]
    Local,
    /// Those that the origin names, if any.
    Origin,
}

impl MpdClock {
    /// Every choice.
    pub const ALL: [Self; 2] = [Self::Local, Self::Origin];

    /// Returns the name used in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Origin => "origin",
        }
    }
}
