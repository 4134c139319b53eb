//! `keyfall completions` and `keyfall man`: generated from the arguments, so they cannot fall behind them.

use clap::CommandFactory;

use super::arguments::{Arguments, CompletionsArgs, ManArgs};
use super::exit::{Exit, Failure};
use super::session::Session;

pub(super) fn completions(session: &Session, args: &CompletionsArgs) -> Result<Exit, Failure> {
    let mut command = Arguments::command();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "keyfall", &mut script);
    session.output.text(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Success)
}

pub(super) fn man(session: &Session, args: &ManArgs) -> Result<Exit, Failure> {
    let mut command = Arguments::command();
    // Fills in names such as `keyfall config show` and the global flags.
    command.build();
    let command = match &args.command {
        None => command,
        Some(name) => command.find_subcommand(name).cloned().ok_or_else(|| unknown(name))?,
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    session.output.text(&String::from_utf8_lossy(&page))?;
    Ok(Exit::Success)
}

fn unknown(name: &str) -> Failure {
    Failure::new(Exit::Usage, format!("there is no command {name:?}"), "`keyfall help` lists the commands")
}
