//! What other people's engines speak, apart from any input and output: read, judged and written here, carried by `cli`.

pub mod cni;
pub mod netavark;
