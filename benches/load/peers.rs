//! DuckDB, the best of the peers, on the same object, server and table.
//!
//! It comes from `PyPI` with its extensions as wheels, into a folder of cargo's; where that cannot be had, the part says
//! so and the rest goes on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use keyfall::demo::s3::{ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY};

use crate::data::Files;
use crate::lab::Lab;
use crate::lineitem;
use crate::process::{self, Cost};
use crate::report::Report;
use crate::s3::{BUCKET, PREFIX, Server};

const VERSION: &str = "1.5.5";

/// Reads the object with the table's own types and appends it to the table; what DuckDB's documentation advises.
const SCRIPT: &str = r#"
import glob, os, sys, duckdb
folder, endpoint, key, secret, region, url, port = sys.argv[1:]
db = duckdb.connect(config={"extension_directory": os.path.join(folder, "extensions")})
for name in ("httpfs", "postgres_scanner"):
    db.load_extension(glob.glob(f"{folder}/**/{name}.duckdb_extension", recursive=True)[0])
db.execute(f"""CREATE SECRET (TYPE s3, KEY_ID '{key}', SECRET '{secret}', REGION '{region}', ENDPOINT '{endpoint}',
    URL_STYLE 'path', USE_SSL false)""")
db.execute(f"ATTACH 'host=127.0.0.1 port={port} user=postgres dbname=postgres' AS pg (TYPE postgres)")
db.execute("""INSERT INTO pg.public.lineitem SELECT * FROM read_csv('""" + url + """', header = false, columns = {
    'orderkey': 'BIGINT', 'partkey': 'INTEGER', 'suppkey': 'INTEGER', 'linenumber': 'INTEGER',
    'quantity': 'DECIMAL(15,2)', 'extendedprice': 'DECIMAL(15,2)', 'discount': 'DECIMAL(15,2)', 'tax': 'DECIMAL(15,2)',
    'returnflag': 'VARCHAR', 'linestatus': 'VARCHAR', 'shipdate': 'DATE', 'commitdate': 'DATE', 'receiptdate': 'DATE',
    'shipinstruct': 'VARCHAR', 'shipmode': 'VARCHAR', 'comment': 'VARCHAR'})""")
"#;

/// DuckDB, ready to run.
pub(crate) struct DuckDb {
    python: PathBuf,
    folder: PathBuf,
}

impl DuckDb {
    /// Installs it where it is not there yet.
    pub(crate) fn install() -> anyhow::Result<Self> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("duckdb-{VERSION}"));
        let python = folder.join("bin/python3");
        let done = folder.join("installed");
        if !done.exists() {
            run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
            let packages = ["duckdb", "duckdb-extension-httpfs", "duckdb-extension-postgres-scanner"];
            let mut pip = Command::new(&python);
            pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
            run(pip.args(packages.map(|package| format!("{package}=={VERSION}"))))?;
            fs::write(&done, "").context("note that DuckDB is installed")?;
        }
        Ok(Self { python, folder })
    }

    /// One load of the whole file from S3 into the emptied table.
    pub(crate) fn load(&self, lab: &Lab, files: &Files) -> anyhow::Result<Cost> {
        let key = format!("{PREFIX}1.csv");
        let server = Server::with_files([(key.as_str(), files.whole.as_path())])?;
        lab.sql(&["TRUNCATE lineitem", "CHECKPOINT"])?;
        let endpoint = server.endpoint().trim_start_matches("http://");
        let mut command = Command::new(&self.python);
        command.args(["-c", SCRIPT]).arg(&self.folder);
        command.args([endpoint, ACCESS_KEY_ID, SECRET_ACCESS_KEY, REGION]);
        command.args([format!("s3://{BUCKET}/{key}"), lab.port().to_string()]);
        let cost = process::cost_of(&mut command)?;
        lineitem::check(lab, files.rows)?;
        Ok(cost)
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("start {}", command.get_program().display()))?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// Enters the figures, or why there are none.
pub(crate) fn enter(report: &mut Report, outcome: &anyhow::Result<Vec<Cost>>, baseline: f64) {
    let name = format!("DuckDB {VERSION}, the one CSV object");
    match outcome {
        Ok(costs) => lineitem::enter_other(report, &name, costs, baseline),
        Err(error) => report.not_run(&name, &format!("{error:#}")),
    }
}
