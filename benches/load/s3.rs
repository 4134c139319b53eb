//! The S3 server in a process of its own: this program, started again in another role.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};
use bytes::Bytes;
use keyfall::demo::s3::EmbeddedS3;

use crate::data;

/// First argument of the server's process.
pub(crate) const ROLE: &str = "serve-s3";

/// The one bucket.
pub(crate) const BUCKET: &str = "bench";

/// Where generated objects lie.
pub(crate) const PREFIX: &str = "in/";

/// A running server process; it ends with this value, or with us.
pub(crate) struct Server {
    child: Child,
    endpoint: String,
}

impl Server {
    /// Starts one that holds files under keys.
    pub(crate) fn with_files<'a>(files: impl IntoIterator<Item = (&'a str, &'a Path)>) -> anyhow::Result<Self> {
        Self::start(files.into_iter().map(|(key, path)| format!("{key}={}", path.display())))
    }

    /// Starts one that holds so many generated objects of so many rows.
    pub(crate) fn with_generated(objects: usize, rows: usize) -> anyhow::Result<Self> {
        Self::start([format!("{objects}x{rows}")])
    }

    fn start(contents: impl IntoIterator<Item = String>) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("find this program")?;
        let mut command = Command::new(program);
        command.arg(ROLE).args(contents).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("start the S3 server")?;
        let mut endpoint = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut endpoint).context("read the S3 server's address")?;
        }
        Ok(Self { child, endpoint: endpoint.trim().to_owned() })
    }

    /// Its address.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // End of file is what it waits for.
        drop(self.child.stdin.take());
        if let Err(error) = self.child.wait() {
            println!("the S3 server could not be waited for: {error}");
        }
    }
}

/// The other role: serves what the arguments name until standard input ends.
pub(crate) fn serve(contents: &[String]) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let _context = runtime.enter();
    let s3 = runtime.block_on(EmbeddedS3::start())?;
    s3.create_bucket(BUCKET);
    for content in contents {
        if let Some((key, path)) = content.split_once('=') {
            s3.put(BUCKET, key, std::fs::read(path).with_context(|| format!("read {path}"))?);
        } else if let Some((objects, rows)) = content.split_once('x') {
            let (objects, rows) = (objects.parse()?, rows.parse()?);
            if rows == 0 {
                s3.put_everywhere(BUCKET, (0..objects).map(data::small_key), Bytes::new());
            } else {
                for n in 0..objects {
                    s3.put(BUCKET, &data::small_key(n), data::small_object(n, rows));
                }
            }
        } else {
            bail!("{content} is neither KEY=FILE nor OBJECTSxROWS");
        }
    }
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", s3.endpoint())?;
    stdout.flush()?;
    let mut nothing = Vec::new();
    std::io::stdin().read_to_end(&mut nothing)?;
    Ok(())
}
