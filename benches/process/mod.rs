//! What the benches that call a server share: the server in a process of its own, and what this one
//! has used. (Processor time of a process says nothing if its server is a thread of it.)

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::Arc,
};

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Starts this program again as a server, with these arguments behind `--serve`, and measures beside
/// it; the measurement is given the server's address.
pub(crate) fn beside_server(
    arguments: &[&str],
    measure: impl AsyncFnOnce(&str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut server = Command::new(env::current_exe()?);
    let mut server = server.arg("--serve").args(arguments).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(server.stdout.take().ok_or("no output")?).read_line(&mut line)?;
    let result = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(measure(line.trim()));
    server.kill()?;
    server.wait()?;
    result
}

/// Answers every request with the same bytes, one thread for each connection.
pub(crate) fn serve(response: impl Into<Arc<[u8]>>) -> Result<(), Failure> {
    let response = response.into();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    for stream in listener.incoming() {
        let (stream, response) = (stream?, Arc::clone(&response));
        std::thread::spawn(move || answer(stream, &response));
    }
    Ok(())
}

fn answer(mut stream: TcpStream, response: &[u8]) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; 8_192];
    loop {
        let mut read = 0;
        while !buffer[..read].ends_with(b"\r\n\r\n") {
            match stream.read(&mut buffer[read..])? {
                0 => return Ok(()),
                more => read += more,
            }
        }
        stream.write_all(response)?;
    }
}

/// The resources that this process has used so far.
pub(crate) struct Used {
    /// User and system time, in steps of 10 ms.
    pub(crate) ticks: u64,
    /// Pages of memory that were mapped, without reading a disk.
    #[allow(dead_code, reason = "not every bench counts them")]
    pub(crate) faults: u64,
}

impl Used {
    pub(crate) fn now() -> Result<Self, Failure> {
        let text = fs::read_to_string("/proc/self/stat")?;
        // The name of the program, in brackets, may hold spaces.
        let fields: Vec<_> =
            text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let field = |at: usize| fields.get(at).and_then(|f| f.parse::<u64>().ok()).ok_or("no time");
        Ok(Self { ticks: field(11)? + field(12)?, faults: field(7)? })
    }
}
