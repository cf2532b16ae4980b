//! `xtask probe`: the few network programs that the demo needs, for machines that have neither `ping` nor `curl`.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv6Addr, TcpListener, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use hickory_proto::rr::RecordType;
use spandrel_tests::{Net, addresses};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// A small network program
#[derive(Args)]
pub(crate) struct ProbeArgs {
    #[command(subcommand)]
    probe: Probe,
}

#[derive(Subcommand)]
enum Probe {
    /// Send one ICMP echo request and wait for the reply
    Ping {
        /// Whom to ask
        address: IpAddr,
    },
    /// Serve HTTP: tell each client its address
    Serve {
        /// The port to listen on
        port: u16,
    },
    /// Fetch a page by HTTP and print it
    Get {
        /// The server, as in 127.0.0.1:80
        #[arg(value_name = "HOST:PORT")]
        server: String,
    },
    /// Ask a container's name server for the IPv4 addresses of a name, and print them in the order of its answer
    Names {
        /// What to look up
        name: String,
    },
}

/// Runs the program that was asked for.
pub(crate) fn run(args: &ProbeArgs) -> ExitCode {
    let result = match &args.probe {
        Probe::Ping { address } => ping(*address),
        Probe::Serve { port } => serve(*port),
        Probe::Get { server } => get(server),
        Probe::Names { name } => names(name),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("probe: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn ping(address: IpAddr) -> Result<()> {
    match here()?.briefly().ping(address) {
        Ok(time) => println!("reply from {address} in {:.2} ms", time.as_secs_f64() * 1000.0),
        Err(error) if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => {
            bail!("no reply from {address}")
        }
        Err(error) => bail!("{address} is unreachable: {error}"),
    }
    Ok(())
}

fn names(name: &str) -> Result<()> {
    let answer = here()?.look_up(name, RecordType::A).context("no answer from the name server")?;
    for address in addresses(&answer) {
        println!("{address}");
    }
    Ok(())
}

/// The namespace in which this runs.
fn here() -> Result<Net> {
    Net::open("here", Path::new("/proc/self/ns/net")).context("cannot open this network namespace")
}

fn serve(port: u16) -> Result<()> {
    // Both families: IPv4 clients come as mapped addresses.
    let listener =
        TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).with_context(|| format!("cannot serve port {port}"))?;
    for client in listener.incoming() {
        let client = client.context("cannot accept a client")?;
        // A client that breaks off is the client's affair.
        thread::spawn(move || _ = answer(client));
    }
    Ok(())
}

fn answer(mut client: TcpStream) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    for line in BufReader::new(client.try_clone()?).lines() {
        if line?.is_empty() {
            break;
        }
    }
    let host = nix::unistd::gethostname()?;
    let page = format!("this is {}, you are {}\n", host.display(), client.peer_addr()?.ip().to_canonical());
    write!(client, "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{page}", page.len())
}

fn get(server: &str) -> Result<()> {
    let mut stream = connect(server).with_context(|| format!("cannot reach {server}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET / HTTP/1.0\r\nHost: {server}\r\n\r\n")?;
    let mut response = String::new();
    stream.read_to_string(&mut response).with_context(|| format!("{server} gives no whole answer"))?;
    match response.split_once("\r\n\r\n") {
        Some((head, page)) if head.starts_with("HTTP/1.0 200") => print!("{page}"),
        _ => bail!("{server} does not answer in HTTP"),
    }
    Ok(())
}

/// Tries one address of a server after the other; the last error counts.
fn connect(server: &str) -> io::Result<TcpStream> {
    let mut result = Err(io::ErrorKind::AddrNotAvailable.into());
    for address in server.to_socket_addrs()? {
        result = TcpStream::connect_timeout(&address, PATIENCE);
        if result.is_ok() {
            break;
        }
    }
    result
}
