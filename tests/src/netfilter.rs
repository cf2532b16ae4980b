//! Which packet filter a namespace has, asked of the kernel itself: Spandrel works without any. Others get theirs from `nft`.

use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::{env, fs};

use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::debian;
use crate::fail::OrFail;
use crate::net::{Net, PATIENCE};

/// `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE` of `linux/netfilter/`.
const GET_TABLE: u16 = 10 << 8 | 1;
/// `NFTA_TABLE_NAME`.
const TABLE_NAME: u16 = 1;
/// Length of a `nlmsghdr`, and of one with a `nfgenmsg` behind.
const HEADER: usize = 16;
const HEADERS: usize = 20;

impl Net {
    /// The tables of nftables and of the old iptables here, such as `nftables: filter`. Empty where there is no rule at
    /// all.
    #[track_caller]
    pub fn packet_filters(&self) -> Vec<String> {
        let dumped = self.run(nf_tables).or_fail(format_args!("list the tables of {}", self.name()));
        let mut tables: Vec<_> = dumped.into_iter().map(|name| format!("nftables: {name}")).collect();
        for (file, program) in
            [("ip_tables_names", "iptables"), ("ip6_tables_names", "ip6tables"), ("arp_tables_names", "arptables")]
        {
            // A kernel without the old iptables does not have the file.
            let names = self.proc_net(file).unwrap_or_default();
            tables.extend(names.lines().map(|name| format!("{program}: {name}")));
        }
        tables
    }

    /// Adds these rules, written as `nft -f` reads them; the program comes from Debian's packages.
    #[track_caller]
    pub fn add_packet_filter(&self, rules: &str) {
        // What `nft` says quotes the rule that it does not like; all of them may be thousands.
        self.run(|| nft(rules)).or_fail(format_args!("load packet filter rules in {}", self.name()));
    }
}

/// Has `nft` load the rules in the calling thread's namespace.
fn nft(rules: &str) -> io::Result<()> {
    let packages = debian::packages()?;
    let libraries = fs::read_dir(packages.join("usr/lib"))?.flatten().map(|entry| entry.path());
    let mut command = Command::new(packages.join("usr/sbin/nft"));
    command.args(["-f", "-"]).env("LD_LIBRARY_PATH", env::join_paths(libraries).unwrap_or_default());
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().expect("it was piped").write_all(rules.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = || io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    if output.status.success() { Ok(()) } else { Err(said()) }
}

/// The names of all nftables tables of the calling thread's namespace.
fn nf_tables() -> io::Result<Vec<String>> {
    let kind = (AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter);
    let socket = match socket(kind.0, kind.1, kind.2, kind.3) {
        Ok(socket) => socket,
        // No netfilter in the kernel, no rules.
        Err(nix::errno::Errno::EPROTONOSUPPORT) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(PATIENCE.as_secs() as i64))?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    send(socket.as_raw_fd(), &question(), MsgFlags::empty())?;
    let (mut names, mut buffer) = (Vec::new(), vec![0; 65536]);
    loop {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let mut rest = &buffer[..length];
        while let Some((kind, body)) = next(&mut rest) {
            match i32::from(kind) {
                libc::NLMSG_DONE => return Ok(names),
                libc::NLMSG_ERROR => return refusal(body).map_or(Ok(names), Err),
                _ => names.extend(table_name(body)),
            }
        }
    }
}

/// A dump request for the tables of every family.
fn question() -> Vec<u8> {
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    let mut message = Vec::with_capacity(HEADERS);
    message.extend_from_slice(&(HEADERS as u32).to_ne_bytes());
    message.extend_from_slice(&GET_TABLE.to_ne_bytes());
    message.extend_from_slice(&flags.to_ne_bytes());
    // Sequence number, port, and the nfgenmsg: family unspecified, version 0, no resource.
    message.resize(HEADERS, 0);
    message
}

/// Takes one message off: its type, and what follows its header.
fn next<'a>(rest: &mut &'a [u8]) -> Option<(u16, &'a [u8])> {
    let length = u32::from_ne_bytes(rest.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(rest.get(4..6)?.try_into().ok()?);
    let body = rest.get(HEADER..length)?;
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, body))
}

/// The error in an error message; none if the kernel has no nftables, which is as good as no table.
fn refusal(body: &[u8]) -> Option<io::Error> {
    let number = i32::from_ne_bytes(body.get(..4)?.try_into().ok()?);
    (-number != libc::EINVAL && number != 0).then(|| io::Error::from_raw_os_error(-number))
}

/// The name in a table's message.
fn table_name(body: &[u8]) -> Option<String> {
    let mut attributes = body.get(HEADERS - HEADER..)?;
    loop {
        let length = usize::from(u16::from_ne_bytes(attributes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(attributes.get(2..4)?.try_into().ok()?);
        if kind == TABLE_NAME {
            return Some(String::from_utf8_lossy(attributes.get(4..length)?).trim_end_matches('\0').to_owned());
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}
