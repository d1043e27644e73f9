//! What puts load and faults on a CDN: a live origin of real CMAF media and a viewer swarm.

pub mod media;
pub mod origin;
pub mod swarm;
