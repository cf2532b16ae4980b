//! An agent as it was before it knew some calls: the real one, which is asked everything else.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;

use crate::fail::OrFail;
use crate::host::{Host, SOCKET};

/// Its socket on its host.
pub const OLDER_SOCKET: &str = "/run/spandrel-older.sock";

impl Host {
    /// Has [`OLDER_SOCKET`] answered by an agent that does not know the calls whose paths begin so. The agent itself must run.
    #[track_caller]
    pub fn older_agent(&self, unknown: &'static str) {
        let listener = UnixListener::bind(self.path(OLDER_SOCKET)).or_fail("listen as an older agent");
        let agent = self.path(SOCKET);
        // It ends with this process; nobody finds its socket any more once the host is gone.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let agent = agent.clone();
                thread::spawn(move || serve(client, &agent, unknown));
            }
        });
    }
}

/// Serves one call, since our clients make a connection for each.
fn serve(mut client: UnixStream, agent: &Path, unknown: &str) -> io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
    let call = line.trim_end_matches(" HTTP/1.1");
    if call.split_once(' ').is_some_and(|(_, path)| path.starts_with(unknown)) {
        let body = format!("{{\"message\":\"there is no call {call}\"}}");
        let length = body.len();
        return write!(client, "HTTP/1.1 404 Not Found\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    }
    let mut server = UnixStream::connect(agent)?;
    server.write_all(&head)?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || io::copy(&mut from_client, &mut to_server));
    io::copy(&mut server, &mut client)?;
    client.shutdown(Shutdown::Both)
}
