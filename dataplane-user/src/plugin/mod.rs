//! What other people's engines speak: read, judged and written here. `cni` is without any input and output, which `cli` has for it;
//! `docker` is a server beside the API's.

pub mod cni;
pub mod docker;
pub mod netavark;
