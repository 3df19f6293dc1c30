//! The parts that the benches of a server share: the server in a process of its own, and what this
//! one has used. (Processor time of a process says nothing if its server is a thread of it.)

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
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
#[allow(dead_code, reason = "not every bench gives the same answer to all")]
pub(crate) fn serve(response: impl Into<Arc<[u8]>>) -> Result<(), Failure> {
    let response = response.into();
    serve_by(move |_| Arc::clone(&response))
}

/// Answers every request with what `respond` makes of its body, one thread for each connection.
pub(crate) fn serve_by(
    respond: impl Fn(&[u8]) -> Arc<[u8]> + Clone + Send + 'static,
) -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    for stream in listener.incoming() {
        let (stream, respond) = (stream?, respond.clone());
        std::thread::spawn(move || answer(stream, &respond));
    }
    Ok(())
}

fn answer(mut stream: TcpStream, respond: &impl Fn(&[u8]) -> Arc<[u8]>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; 8_192];
    loop {
        let mut read = 0;
        let body = loop {
            if let Some(body) = body(&buffer[..read]) {
                break body;
            }
            match stream.read(&mut buffer[read..])? {
                0 => return Ok(()),
                more => read += more,
            }
        };
        stream.write_all(&respond(body))?;
    }
}

/// Returns the body of a request that has come to its end.
fn body(request: &[u8]) -> Option<&[u8]> {
    const END: &[u8] = b"\r\n\r\n";
    let head = request.windows(END.len()).position(|bytes| bytes == END)?;
    let (head, body) = request.split_at(head + END.len());
    let head = std::str::from_utf8(head).unwrap_or_default();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length = length.and_then(|length| length.parse().ok()).unwrap_or(0);
    (body.len() >= length).then_some(body)
}

/// The resources that this process has used so far.
pub(crate) struct Used {
    /// Time that its threads have run. One that has ended is left out; those of a bench do not end
    /// while it measures.
    pub(crate) processor: Duration,
    /// Pages of memory that were mapped, without reading a disk.
    #[allow(dead_code, reason = "not every bench counts them")]
    pub(crate) faults: u64,
}

impl Used {
    pub(crate) fn now() -> Result<Self, Failure> {
        let mut nanos = 0;
        for thread in fs::read_dir("/proc/self/task")? {
            nanos += number(&fs::read_to_string(thread?.path().join("schedstat"))?, 0)?;
        }
        let text = fs::read_to_string("/proc/self/stat")?;
        // The name of the program, in brackets, may hold spaces.
        let faults = number(text.rsplit(')').next().unwrap_or_default(), 7)?;
        Ok(Self { processor: Duration::from_nanos(nanos), faults })
    }
}

fn number(text: &str, at: usize) -> Result<u64, Failure> {
    Ok(text.split_whitespace().nth(at).ok_or("the system tells no such number")?.parse()?)
}
