//! Rules, kinds of values, sources and routes, through the whole decode stage.

mod given;
mod kinds;
mod routes;
mod rules;
mod sources;
