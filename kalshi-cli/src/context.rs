//! The surroundings of a command: environment, profile, credentials, clients and output.

use std::{
    io::{IsTerminal as _, stdin},
    process::{Command, Stdio},
    str::FromStr,
};

use http::Method;
use kalshi_sdk::{
    CallReport, Client, ClientBuilder, Credentials, Environment, Operation, RawRequest,
    auth::{Clock as _, Service, SystemClock, is_loopback},
    streams,
};
use kalshi_sim::{Exchange, Role};
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

use crate::{
    api::Table,
    args::{self, Global},
    failure::{Failure, Outcome},
    output::Output,
    profile::Profile,
    under_way::MarkWrites,
};

const USER_AGENT: &str = concat!("kalshi-cli/", env!("CARGO_PKG_VERSION"));

/// The environment as it is named on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Demo,
    Production,
    /// An exchange inside this process.
    Sim,
    /// The URL of an exchange.
    Custom(String),
}

impl Target {
    /// Reports whether orders here may move real money. Everything that is not known to be mock
    /// money counts as real.
    pub(crate) fn is_real_money(&self) -> bool {
        match self {
            Self::Demo | Self::Sim => false,
            Self::Production => true,
            Self::Custom(url) => {
                let environment = Environment::Custom(url.clone());
                let demo = Environment::Demo.checked_url(Service::Rest).ok();
                match environment.checked_url(Service::Rest) {
                    Ok(url) => {
                        let host = url.host().unwrap_or_default();
                        let is_demo = demo.as_ref().and_then(|demo| demo.host()) == Some(host);
                        !is_loopback(host) && !is_demo
                    }
                    Err(_) => true,
                }
            }
        }
    }

    /// Returns the environment in words, for previews and prompts.
    pub(crate) fn in_words(&self) -> String {
        match self {
            Self::Demo => "demo (mock money)".to_owned(),
            Self::Production => "PRODUCTION (real money)".to_owned(),
            Self::Sim => "sim (an exchange in this process)".to_owned(),
            Self::Custom(url) if self.is_real_money() => format!("{url} (possibly real money)"),
            Self::Custom(url) => format!("{url} (mock money)"),
        }
    }

    /// Returns the name that the command line takes.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Demo => "demo",
            Self::Production => "production",
            Self::Sim => "sim",
            Self::Custom(url) => url,
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "sim" {
            return Ok(Self::Sim);
        }
        match text.parse() {
            Ok(Environment::Demo) => Ok(Self::Demo),
            Ok(Environment::Production) => Ok(Self::Production),
            Ok(environment) => {
                environment.checked_url(Service::Rest).map_err(|error| error.to_string())?;
                Ok(Self::Custom(environment.to_string()))
            }
            // Not repeated: it may be anything, a key included.
            Err(_) => {
                Err("an environment is `demo`, `production`, `sim` or the URL of an exchange"
                    .to_owned())
            }
        }
    }
}

/// The surroundings of a command. Nothing is started, read or connected before it is needed.
pub(crate) struct Context {
    pub(crate) global: Global,
    pub(crate) profile: Profile,
    pub(crate) target: Target,
    pub(crate) output: Output,
    exchange: OnceCell<Exchange>,
    /// The clients, each made once: its connections are used again.
    public: OnceCell<Client>,
    signing: OnceCell<Client>,
    /// True if another program speaks to this one over the standard input and output: no other may
    /// read or write them.
    is_server: bool,
}

impl Context {
    /// Reads the configuration.
    pub(crate) fn new(mut global: Global, command: &args::Command) -> Outcome<Self> {
        // An empty variable counts as one that is not set.
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let text = |name: &str| match variable(name).map(std::ffi::OsString::into_string) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some(text)),
            Some(Err(_)) => Err(Failure::usage(format!("the variable {name} is not text"))),
        };
        if global.env.is_none() {
            let target = text("KALSHI_ENV")?.map(|name| name.parse::<Target>()).transpose();
            global.env = target.map_err(|error| Failure::usage(format!("KALSHI_ENV: {error}")))?;
        }
        if global.profile.is_none() {
            global.profile = text("KALSHI_PROFILE")?;
        }
        if global.sim_state.is_none() {
            global.sim_state = variable("KALSHI_SIM_STATE").map(Into::into);
        }
        let profile = Profile::load(global.profile.as_deref(), command.makes_profile())?;
        let target = match (&global.env, &profile.env) {
            (Some(target), _) | (None, Some(target)) => target.clone(),
            (None, None) => Target::Demo,
        };
        let format = global.output.or(profile.output).unwrap_or(command.default_format());
        let output = Output::new(format, global.fields.clone(), global.quiet);
        Ok(Self::of(global, profile, target, output))
    }

    fn of(global: Global, profile: Profile, target: Target, output: Output) -> Self {
        Self {
            global,
            profile,
            target,
            output,
            exchange: OnceCell::new(),
            public: OnceCell::new(),
            signing: OnceCell::new(),
            is_server: false,
        }
    }

    /// Returns the same surroundings for a server on the standard input and output.
    #[cfg(feature = "mcp")]
    pub(crate) fn for_server(&self) -> Self {
        let (profile, target) = (self.profile.clone(), self.target.clone());
        let context = Self::of(self.global.clone(), profile, target, self.output.clone());
        Self { is_server: true, ..context }
    }

    /// Returns the same surroundings with another key.
    pub(crate) fn with_key(&self, id: &str, setting: &str, place: &str) -> Self {
        let mut global = self.global.clone();
        global.key_id = Some(id.to_owned());
        global.key_file = (setting == "key_file").then(|| place.into());
        global.key_command = (setting == "key_command").then(|| place.to_owned());
        Self::of(global, self.profile.clone(), self.target.clone(), self.output.clone())
    }

    /// Returns the exchange of `--env sim`, started if it is not running.
    async fn exchange(&self) -> Outcome<&Exchange> {
        self.exchange
            .get_or_try_init(|| async {
                let mut builder = Exchange::builder();
                if let Some(file) = &self.global.sim_state {
                    builder = builder.with_state_file(file);
                }
                builder.start().await.map_err(|error| crate::sim::not_started(&error))
            })
            .await
    }

    /// Writes the state of the exchange of `--env sim`, if that was asked for and it was started.
    pub(crate) fn save_exchange(&self) -> Outcome {
        if let (Some(exchange), Some(file)) = (self.exchange.get(), &self.global.sim_state) {
            exchange.save(file).map_err(|error| {
                Failure::local(format!("could not write {}: {error}", file.display()))
            })?;
        }
        Ok(())
    }

    /// Returns the environment for clients and streams.
    pub(crate) async fn environment(&self) -> Outcome<Environment> {
        Ok(match &self.target {
            Target::Demo => Environment::Demo,
            Target::Production => Environment::Production,
            Target::Custom(url) => Environment::Custom(url.clone()),
            Target::Sim => self.exchange().await?.environment(),
        })
    }

    /// Returns the builder of a client without credentials, with the settings of the command line.
    pub(crate) async fn client_builder(&self) -> Outcome<ClientBuilder> {
        let mut builder = Client::builder()
            .with_environment(self.environment().await?)
            .with_user_agent(USER_AGENT)
            .with_middleware(MarkWrites);
        if let Some(timeout) = self.global.timeout.or(self.profile.timeout) {
            builder = builder.with_timeout(timeout).with_connect_timeout(timeout);
        }
        if self.global.verbose {
            builder = builder.on_call(print_call);
        }
        Ok(builder)
    }

    /// Returns a client for public operations.
    pub(crate) async fn public_client(&self) -> Outcome<Client> {
        let client = self.public.get_or_try_init(|| async { build(self.client_builder().await?) });
        client.await.cloned()
    }

    /// Returns a client that signs.
    pub(crate) async fn client(&self) -> Outcome<Client> {
        let client = self.signing.get_or_try_init(|| async {
            let credentials = self.credentials().await?;
            build(self.client_builder().await?.with_credentials(credentials))
        });
        client.await.cloned()
    }

    /// Returns the client that an operation needs: public ones work without credentials.
    pub(crate) async fn client_for(&self, operation: &Operation) -> Outcome<Client> {
        match operation.access {
            kalshi_sdk::operation::Access::Public => self.public_client().await,
            _ => self.client().await,
        }
    }

    /// Returns a request to the path of an operation, by the client that the operation needs.
    pub(crate) async fn raw(
        &self,
        operation: &Operation,
        method: Method,
        path: &str,
    ) -> Outcome<RawRequest> {
        if Table::of(operation).service == Service::Klear {
            return self.klear_raw(method, path).await;
        }
        Ok(self.client_for(operation).await?.raw(method, path))
    }

    /// Returns a request to a path of the clearing house.
    #[cfg(feature = "klear")]
    pub(crate) async fn klear_raw(&self, method: Method, path: &str) -> Outcome<RawRequest> {
        let (id, token) = match self.target {
            Target::Sim => {
                let token = self.exchange().await?.klear().token(Role::Trader).cloned();
                let token = token.ok_or_else(|| Failure::local("the exchange has no token"))?;
                let secret = Zeroizing::new(token.access_token().to_owned());
                (token.admin_user_id().to_owned(), secret)
            }
            _ => crate::command::klear::token()?,
        };
        let mut builder = kalshi_sdk::klear::Klear::builder()
            .with_environment(self.environment().await?)
            .with_user_agent(USER_AGENT)
            .with_middleware(MarkWrites)
            .with_token(id, token.as_str());
        if let Some(timeout) = self.global.timeout.or(self.profile.timeout) {
            builder = builder.with_timeout(timeout).with_connect_timeout(timeout);
        }
        if self.global.verbose {
            builder = builder.on_call(print_call);
        }
        let klear = builder.build().map_err(|error| Failure::usage(error.to_string()))?;
        Ok(klear.raw(method, path))
    }

    /// Not reached: without the feature there is no operation of the clearing house.
    #[cfg(not(feature = "klear"))]
    #[expect(clippy::unused_async, reason = "it stands in for the one with the feature")]
    pub(crate) async fn klear_raw(&self, _: Method, _: &str) -> Outcome<RawRequest> {
        Err(Failure::local("this program was built without the feature klear"))
    }

    /// Returns the builder of a stream connection's settings, with environment and credentials.
    pub(crate) async fn stream_config(&self) -> Outcome<streams::ConfigBuilder> {
        Ok(streams::Config::builder()
            .with_environment(self.environment().await?)
            .with_credentials(self.credentials().await?))
    }

    /// Returns the credentials: of the command line, else of the environment variables, else of the
    /// profile; those of the embedded exchange with `--env sim`.
    pub(crate) async fn credentials(&self) -> Outcome<Credentials> {
        let global = &self.global;
        if self.target == Target::Sim {
            let credentials = self.exchange().await?.credentials(Role::Trader).cloned();
            return credentials.ok_or_else(|| Failure::local("the exchange made no key"));
        }
        if global.key_id.is_some() || global.key_file.is_some() || global.key_command.is_some() {
            let Some(id) = global.key_id.as_deref().or(self.profile.key_id.as_deref()) else {
                return Err(Failure::usage("a private key was given without --key-id"));
            };
            return match (&global.key_file, &global.key_command) {
                (Some(file), _) => read(Credentials::from_file(id, file)),
                (None, Some(command)) => self.credentials_of(id, command),
                (None, None) => match Credentials::from_vars(|name| match name {
                    kalshi_sdk::auth::KEY_ID_VAR => Some(id.into()),
                    name => std::env::var_os(name),
                }) {
                    Ok(credentials) => Ok(credentials),
                    Err(error) => self.profile_credentials(id, &error.to_string()),
                },
            };
        }
        match Credentials::from_env() {
            Ok(credentials) => Ok(credentials),
            Err(error) if error.is_missing_credentials() => {
                let id = self.profile.key_id.as_deref().unwrap_or_default();
                self.profile_credentials(id, &error.to_string())
            }
            Err(error) => Err(Failure::credentials(error.to_string())),
        }
    }

    fn profile_credentials(&self, id: &str, missing: &str) -> Outcome<Credentials> {
        let profile = &self.profile;
        let own = profile.env.clone().unwrap_or(Target::Demo);
        let has_key = profile.key_file.is_some() || profile.key_command.is_some();
        if has_key && own != self.target {
            return Err(Failure::credentials(format!(
                "the key of the profile {:?} is of {}, and this command acts on {}",
                profile.name,
                own.name(),
                self.target.name()
            ))
            .with_next("kalshi setup --env ... --profile NAME makes a profile of its own"));
        }
        if has_key && id.is_empty() {
            return Err(Failure::credentials(format!(
                "the profile {:?} has a private key and no key_id",
                profile.name
            ))
            .with_next("kalshi config set key_id ID"));
        }
        match (&profile.key_file, &profile.key_command) {
            (Some(file), _) => read(Credentials::from_file(id, file)),
            (None, Some(command)) => self.credentials_of(id, command),
            (None, None) => Err(Failure::credentials(missing.to_owned())
                .with_next("kalshi setup, or --env sim to try it without an account")),
        }
    }

    /// Runs a shell command that prints a private key. What it prints is kept off every output.
    fn credentials_of(&self, id: &str, command: &str) -> Outcome<Credentials> {
        let failed = |error: &dyn std::fmt::Display| {
            Failure::credentials(format!("could not run the key command: {error}"))
        };
        let (shell, flag) = if cfg!(windows) { ("cmd", "/C") } else { ("sh", "-c") };
        let output = Command::new(shell)
            .args([flag, command])
            .stdin(if self.is_server { Stdio::null() } else { Stdio::inherit() })
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| failed(&error))?;
        let pem = Zeroizing::new(output.stdout);
        if !output.status.success() {
            let status = output.status;
            return Err(Failure::credentials(format!("the key command ended with {status}")));
        }
        Credentials::from_pem(id, pem.as_slice())
            .map_err(|error| Failure::credentials(format!("the key command's output: {error}")))
    }

    /// Returns the time.
    #[expect(clippy::unused_self, reason = "the time is one of a command's surroundings")]
    pub(crate) fn now(&self) -> chrono::DateTime<chrono::Utc> {
        SystemClock.now().to_datetime().unwrap_or_default()
    }

    /// Reports whether a person is asked before a write, unless `--yes` is given: wherever real money
    /// may move, and everywhere with `--ask`.
    pub(crate) fn asks(&self) -> bool {
        self.global.ask || self.target.is_real_money()
    }

    /// Asks a person to type `expected` before something is done that cannot be undone. Without
    /// `--yes` it is asked in every environment that may move real money, and elsewhere with `--ask`.
    ///
    /// # Errors
    ///
    /// Declined if something else is typed; usage if there is no terminal to ask on.
    pub(crate) async fn confirm(&self, about: &str, expected: &str) -> Outcome {
        if self.global.yes || !self.asks() {
            return Ok(());
        }
        if !stdin().is_terminal() {
            return Err(Failure::usage(format!(
                "{about}: this needs a confirmation, and there is no terminal to ask on"
            ))
            .with_next("add --yes to do it without asking"));
        }
        crate::output::error_line(about);
        crate::output::error_line(&format!("On {}.", self.target.in_words()));
        let question = format!("Type {expected:?} to go on: ");
        if crate::prompt::line(question).await? == expected {
            Ok(())
        } else {
            Err(Failure::declined())
        }
    }
}

/// Prints a line of a call that has ended.
fn print_call(call: &CallReport) {
    let status = call.status.map_or_else(|| "-".to_owned(), |s| s.as_u16().to_string());
    crate::output::error_line(&format!(
        "{} {status} {} ms, {} bytes",
        call.operation.id,
        call.duration.as_millis(),
        call.bytes
    ));
}

fn build(builder: ClientBuilder) -> Outcome<Client> {
    builder.build().map_err(|error| Failure::usage(error.to_string()))
}

fn read(credentials: Result<Credentials, kalshi_sdk::auth::AuthError>) -> Outcome<Credentials> {
    credentials.map_err(|error| Failure::credentials(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_not_known_to_be_mock_money_is_real() {
        for (text, is_real) in [
            ("demo", false),
            ("sim", false),
            ("production", true),
            ("http://127.0.0.1:8080/trade-api/v2", false),
            ("https://external-api.demo.kalshi.co/trade-api/v2", false),
            ("https://external-api.kalshi.com/trade-api/v2", true),
            ("https://proxy.example/trade-api/v2", true),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!(target.is_real_money(), is_real, "{text}");
            assert_eq!(target.name(), text);
        }
    }

    #[test]
    fn an_environment_that_is_none_is_not_repeated() {
        let error = "-----BEGIN PRIVATE KEY-----".parse::<Target>().unwrap_err();
        assert!(!error.contains("BEGIN"), "{error}");
        assert!("https://example.com/".parse::<Target>().is_err());
    }
}
