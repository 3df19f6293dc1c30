//! A file of an hour, read as it was written: column by column, and refused if it is any other file.

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
};

use parquet::{
    column::reader::{ColumnReader, ColumnReaderImpl},
    data_type::{ByteArray, DataType},
    file::{
        reader::{FileReader as _, RowGroupReader, SerializedFileReader},
        statistics::Statistics,
    },
};

use super::failed;
use crate::{
    export::{
        parquet::{Column, GROUP_ROWS, SCHEMA_VERSION, Table, TableFile, Value, schema},
        recording::hash,
    },
    failure::{Failure, Outcome},
};

/// The bytes of a row group beyond which it is of another program.
const MAX_GROUP_BYTES: i64 = 256 << 20;

/// A file of an hour.
pub(super) struct Source {
    path: PathBuf,
    name: String,
    table: &'static Table,
    reader: SerializedFileReader<File>,
    pairs: BTreeMap<String, String>,
    stem: String,
    first_line: i64,
    hash: String,
}

/// Returns the metadata of a Parquet file.
pub(super) fn metadata(path: &Path) -> Outcome<BTreeMap<String, String>> {
    Ok(pairs(&open(path)?))
}

fn open(path: &Path) -> Outcome<SerializedFileReader<File>> {
    let file = File::open(path).map_err(|error| failed("read", path, &error))?;
    SerializedFileReader::new(file).map_err(|error| failed("read", path, &error))
}

fn pairs(reader: &SerializedFileReader<File>) -> BTreeMap<String, String> {
    let pairs = reader.metadata().file_metadata().key_value_metadata();
    let pairs = pairs.into_iter().flatten();
    pairs.filter_map(|pair| Some((pair.key.clone(), pair.value.clone()?))).collect()
}

impl Source {
    /// Opens a file of an hour.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is of another schema, table or program.
    pub(super) fn open(path: PathBuf, table: &'static Table) -> Outcome<Self> {
        let reader = open(&path)?;
        let pairs = pairs(&reader);
        let value = |key: &str| pairs.get(key).map(String::as_str).unwrap_or_default();
        let refused = |reason: String| {
            Failure::local(format!("{} cannot be merged: {reason}", path.display()))
                .with_next("export its recording again with this version")
        };
        let version = value("kalshi.schema_version");
        if version != SCHEMA_VERSION {
            return Err(refused(format!(
                "its schema has the version {version:?}, and not {SCHEMA_VERSION:?}"
            )));
        }
        let expected = schema(table).map_err(|error| failed("read", &path, &error))?;
        let found = reader.metadata().file_metadata().schema();
        if value("kalshi.table") != table.name || *found != expected {
            return Err(refused(format!("it does not have the columns of {}", table.name)));
        }
        for group in reader.metadata().row_groups() {
            let is_fit = usize::try_from(group.num_rows()).is_ok_and(|rows| rows <= GROUP_ROWS)
                && group.total_byte_size() <= MAX_GROUP_BYTES;
            if !is_fit {
                return Err(refused("a row group is too large".to_owned()));
            }
        }
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let stem = value("kalshi.source").strip_prefix("recording ").unwrap_or_default().to_owned();
        if stem.is_empty() || !name.starts_with(&stem) {
            return Err(refused("its name is not that of its recording".to_owned()));
        }
        let Some(first_line) = first_line(&reader, table) else {
            return Err(refused("it does not say which lines it has".to_owned()));
        };
        let hash = hash(&path).map_err(|error| failed("read", &path, &error))?;
        let hour = path.parent().and_then(Path::file_name).and_then(|hour| hour.to_str());
        let name = format!("{}/{name}", hour.unwrap_or_default());
        Ok(Self { path, name, table, reader, pairs, stem, first_line, hash })
    }

    /// Returns the hour and the name of the file.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the name of the recording with its time.
    pub(super) fn stem(&self) -> &str {
        &self.stem
    }

    /// Returns the first line of the recording that it has rows of.
    pub(super) fn first_line(&self) -> i64 {
        self.first_line
    }

    /// Returns a hash of the file.
    pub(super) fn hash(&self) -> &str {
        &self.hash
    }

    /// Returns a value of its metadata.
    pub(super) fn pair(&self, key: &str) -> Option<&str> {
        self.pairs.get(key).map(String::as_str)
    }

    /// Adds all rows to a file of the same table, in their order.
    ///
    /// # Errors
    ///
    /// The file is damaged, or the disk failed.
    pub(super) fn copy(&self, into: &mut TableFile) -> Outcome {
        for at in 0..self.reader.num_row_groups() {
            let group = self.reader.get_row_group(at).map_err(|error| self.damaged(&error))?;
            let rows = usize::try_from(group.metadata().num_rows());
            let rows = rows.map_err(|error| self.damaged(&error))?;
            let columns = self.table.columns.iter().enumerate();
            let columns = columns.map(|(at, column)| self.column(&*group, at, column, rows));
            let columns = columns.collect::<Outcome<Vec<Cells>>>()?;
            let mut places = vec![0_usize; columns.len()];
            for number in 0..rows {
                let mut row = Vec::with_capacity(columns.len());
                for (cells, place) in columns.iter().zip(&mut places) {
                    if cells.is_null(number) {
                        row.push(Value::Null);
                        continue;
                    }
                    let value = cells.value(*place);
                    row.push(value.ok_or_else(|| self.damaged(&"a value is missing"))?);
                    *place += 1;
                }
                into.row(&row)?;
            }
        }
        Ok(())
    }

    fn damaged(&self, error: &dyn std::fmt::Display) -> Failure {
        failed("read", &self.path, error)
    }

    /// Reads a column of a row group.
    fn column(
        &self,
        group: &dyn RowGroupReader,
        at: usize,
        column: &Column,
        rows: usize,
    ) -> Outcome<Cells> {
        let damaged = |error: parquet::errors::ParquetError| self.damaged(&error);
        let reader = group.get_column_reader(at).map_err(damaged)?;
        let is_optional = column.is_optional;
        let (values, levels) = match reader {
            ColumnReader::Int64ColumnReader(reader) => {
                let (values, levels) = read(reader, is_optional, rows).map_err(damaged)?;
                (Values::Numbers(values), levels)
            }
            ColumnReader::BoolColumnReader(reader) => {
                let (values, levels) = read(reader, is_optional, rows).map_err(damaged)?;
                (Values::Flags(values), levels)
            }
            ColumnReader::ByteArrayColumnReader(reader) => {
                let (values, levels) = read(reader, is_optional, rows).map_err(damaged)?;
                (Values::Texts(values), levels)
            }
            _ => {
                return Err(self.damaged(&format!("the column {} is of another type", column.name)));
            }
        };
        Ok(Cells { values, levels })
    }
}

enum Values {
    Numbers(Vec<i64>),
    Texts(Vec<ByteArray>),
    Flags(Vec<bool>),
}

/// The values of a column of a row group, and of each row whether it has one, if it may have none.
struct Cells {
    values: Values,
    levels: Vec<i16>,
}

impl Cells {
    fn is_null(&self, row: usize) -> bool {
        self.levels.get(row) == Some(&0)
    }

    fn value(&self, place: usize) -> Option<Value<'_>> {
        match &self.values {
            Values::Numbers(values) => values.get(place).copied().map(Value::Number),
            Values::Flags(values) => values.get(place).copied().map(Value::Flag),
            Values::Texts(values) => {
                str::from_utf8(values.get(place)?.data()).ok().map(Value::Text)
            }
        }
    }
}

/// Reads the values of a column and the levels of one that may be null.
fn read<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    is_optional: bool,
    rows: usize,
) -> Result<(Vec<T::T>, Vec<i16>), parquet::errors::ParquetError> {
    let (mut values, mut levels, mut read) = (Vec::new(), Vec::new(), 0);
    while read < rows {
        let to = is_optional.then_some(&mut levels);
        let (records, _, _) = reader.read_records(rows - read, to, None, &mut values)?;
        if records == 0 {
            break;
        }
        read += records;
    }
    Ok((values, levels))
}

/// Returns the first line of a file, by what its row groups say.
fn first_line(reader: &SerializedFileReader<File>, table: &Table) -> Option<i64> {
    let at = table.columns.iter().position(|column| column.name == "line")?;
    let groups = reader.metadata().row_groups().iter();
    let lines = groups.map(|group| match group.columns().get(at)?.statistics()? {
        Statistics::Int64(found) => found.min_opt().copied(),
        _ => None,
    });
    lines.collect::<Option<Vec<i64>>>()?.into_iter().min()
}
