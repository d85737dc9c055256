//! Log lines, in the schema that existing pipelines parse.
//!
//! Input: `tracing` events and the fields of the spans around them. Output: one line an event, to stderr (stdout is
//! data) and to a file if one is named. JSON: `{timestamp, level, logger, message, context}`. Text:
//! `[time] [LEVEL] [logger] message key=value`. An event of level ERROR with `critical = true` has level CRITICAL.

mod fields;
mod line;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use self::fields::Fields;
use self::line::{Line, logger};
use crate::clock;
use crate::settings::{LogFormat, LogLevel, LogSettings};

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The file cannot be opened.
    #[error("cannot append to {path}, which --log-file (LOG_FILE) names: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// This process logs already.
    #[error("logging is set up twice in one process")]
    Twice,
}

/// Sends this process's log lines where `settings` say, from now on.
pub fn init(settings: &LogSettings) -> Result<(), TelemetryError> {
    let open = |path: &PathBuf| append_to(path).map_err(|source| TelemetryError::File { path: path.clone(), source });
    let file = settings.file.as_ref().map(open).transpose()?;
    let lines = Lines::new(settings.format, settings.level, StderrAndFile(file));
    Registry::default().with(lines.with_filter(targets(settings.level))).try_init().map_err(|_| TelemetryError::Twice)
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Our own crates at `level`; everybody else's warnings, which say what we cannot.
fn targets(level: LogLevel) -> Targets {
    let ours = match level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warning => LevelFilter::WARN,
        LogLevel::Error | LogLevel::Critical => LevelFilter::ERROR,
    };
    Targets::new().with_target("sqlsentinel", ours).with_default(ours.min(LevelFilter::WARN))
}

struct StderrAndFile(Option<File>);

impl Write for StderrAndFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let stderr = io::stderr().write_all(line);
        if let Some(file) = &mut self.0 {
            file.write_all(line)?;
        }
        stderr.map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.as_mut().map_or(Ok(()), File::flush)
    }
}

/// The layer that makes events into lines.
struct Lines<W> {
    format: LogFormat,
    level: LogLevel,
    writer: Mutex<W>,
}

impl<W: Write> Lines<W> {
    fn new(format: LogFormat, level: LogLevel, writer: W) -> Self {
        Self { format, level, writer: Mutex::new(writer) }
    }

    fn write(&self, metadata: &Metadata<'_>, message: &str, context: &Fields, critical: bool) {
        let line = Line {
            timestamp: clock::wall_now(),
            level: line::level(metadata.level(), critical),
            logger: logger(metadata.target()),
            message,
            context,
        };
        let text = match self.format {
            LogFormat::Json => line.to_json(),
            LogFormat::Text => line.to_text(),
        };
        // One write a line, so that lines of several threads never mix. A log line that cannot be written is lost: there
        // is nowhere left to say so, and no alert should be.
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writer.write_all(text.as_bytes());
    }
}

impl<S, W> Layer<S> for Lines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Write + Send + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(of_span) = span.extensions().get::<Fields>() {
                fields.extend(of_span);
            }
        }
        event.record(&mut fields);
        let (message, critical) = (fields.take_message(), fields.take_critical());
        if critical || self.level != LogLevel::Critical {
            self.write(event.metadata(), &message, &fields, critical);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};
    use tracing::{debug, error, info, info_span, warn};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines that `events` are logged as.
    fn logged(format: LogFormat, level: LogLevel, events: impl FnOnce()) -> Vec<String> {
        let sink = Sink::default();
        let lines = Lines::new(format, level, sink.clone());
        let subscriber = Registry::default().with(lines.with_filter(targets(level)));
        tracing::subscriber::with_default(subscriber, events);
        let bytes = sink.0.lock().unwrap();
        String::from_utf8(bytes.clone()).unwrap().lines().map(str::to_owned).collect()
    }

    fn as_json(line: &str) -> Value {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))
    }

    #[test]
    fn a_line_has_the_schema_that_pipelines_parse() {
        let lines = logged(LogFormat::Json, LogLevel::Info, || {
            let span = info_span!(target: "sqlsentinel_worker::execute", "job", execution_id = %"e-1", status = "?", worker = tracing::field::Empty);
            let _entered = span.enter();
            span.record("worker", "w-1");
            let (duration_ms, held) = (123.45, true);
            info!(target: "sqlsentinel_worker::execute", alert_name = "a\n\"b\"", duration_ms, rows = 3_u64, held, status = "ALERT", "Alert execution completed");
        });
        assert_eq!(lines.len(), 1);
        let mut line = as_json(&lines[0]);
        let timestamp = line["timestamp"].take();
        let timestamp = timestamp.as_str().unwrap();
        assert!(timestamp.len() == "2025-11-08T03:06:26.510640Z".len() && timestamp.ends_with('Z'), "{timestamp}");
        let expected = json!({
            "timestamp": null,
            "level": "INFO",
            "logger": "sqlsentinel.worker.execute",
            "message": "Alert execution completed",
            "context": {
                "execution_id": "e-1", "worker": "w-1", "alert_name": "a\n\"b\"", "duration_ms": 123.45, "rows": 3, "held": true,
                "status": "ALERT"
            }
        });
        assert_eq!(line, expected);
    }

    #[test]
    fn levels_have_the_names_they_always_had() {
        let lines = logged(LogFormat::Json, LogLevel::Debug, || {
            debug!("d");
            info!("i");
            warn!("w");
            error!("e");
            error!(critical = true, "c");
        });
        let levels: Vec<_> = lines.iter().map(|line| as_json(line)["level"].as_str().unwrap().to_owned()).collect();
        assert_eq!(levels, ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]);
        assert_eq!(as_json(&lines[4])["context"], json!({}));
    }

    #[test]
    fn a_level_hides_what_is_below_it_and_other_crates_details_always() {
        let messages = |level| {
            let lines = logged(LogFormat::Json, level, || {
                debug!("d");
                info!("i");
                error!("e");
                error!(critical = true, "c");
                info!(target: "sqlx::query", "chatter");
                warn!(target: "async_nats", "slow consumer");
            });
            lines.iter().map(|line| as_json(line)["message"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(messages(LogLevel::Debug), ["d", "i", "e", "c", "slow consumer"]);
        assert_eq!(messages(LogLevel::Info), ["i", "e", "c", "slow consumer"]);
        assert_eq!(messages(LogLevel::Error), ["e", "c"]);
        assert_eq!(messages(LogLevel::Critical), ["c"]);
    }

    #[test]
    fn a_file_gets_every_line_and_keeps_what_it_had() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("sentinel.log");
        std::fs::write(&path, "old\n")?;
        for line in ["one\n", "two\n"] {
            StderrAndFile(Some(append_to(&path)?)).write_all(line.as_bytes())?;
        }
        assert_eq!(std::fs::read_to_string(&path)?, "old\none\ntwo\n");
        Ok(())
    }

    #[test]
    fn text_stays_on_one_line_and_quotes_what_would_be_mistaken() {
        let lines = logged(LogFormat::Text, LogLevel::Info, || {
            info!(target: "sqlsentinel_notifier", alert_name = "two words", attempts = 3, reason = "x=y\n[forged]", "sent\nagain");
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
        let (time, rest) = lines[0].split_once("] ").unwrap();
        assert!(time.starts_with("[20") && time.ends_with('Z'), "{time}");
        let expected =
            r#"[INFO] [sqlsentinel.notifier] sent\nagain alert_name="two words" attempts=3 reason="x=y\n[forged]""#;
        assert_eq!(rest, expected);
    }
}
