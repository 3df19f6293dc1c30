//! Parquet files: tables with exact decimals, written in pieces of bounded memory.
//!
//! A file is `FILE.tmp` until it is whole and on the disk. Decimals are integers of 64 bits, as the
//! money and counts of this workspace are: nothing is converted but names.

use std::{
    fs::{self, File},
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use parquet::{
    basic::{Compression, Encoding, ZstdLevel},
    column::writer::ColumnWriterImpl,
    data_type::{BoolType, ByteArray, ByteArrayType, DataType, Int64Type},
    errors::ParquetError,
    file::{
        metadata::{KeyValue, SortingColumn},
        properties::{EnabledStatistics, WriterProperties},
        writer::{SerializedColumnWriter, SerializedFileWriter},
    },
    schema::{
        parser::parse_message_type,
        types::{ColumnPath, Type},
    },
};

use crate::failure::{Failure, Outcome};

/// The version of the tables. A column that changes its meaning or goes away makes a new one.
pub(super) const SCHEMA_VERSION: &str = "1";

/// The rows that are held until they are written, as one row group.
pub(super) const GROUP_ROWS: usize = 128 << 10;

/// The bytes of texts that are held until they are written.
const GROUP_BYTES: usize = 24 << 20;

/// The rows that are handed to the encoder at once.
const BATCH_ROWS: usize = 4 << 10;

/// The largest number of a decimal with 18 digits, in units of its last one.
const DECIMAL_MAX: i64 = 999_999_999_999_999_999;

/// The level of compression: about what files that are written once and read often are given.
const ZSTD_LEVEL: i32 = 3;

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Dollars: `DECIMAL(18,6)`, in 10^-6 USD.
    Money,
    /// Contracts: `DECIMAL(18,2)`, in hundredths.
    Count,
    /// `TIMESTAMP` in microseconds since 1970, UTC.
    Time,
    /// A number of 64 bits.
    Integer,
    /// Numbers that mostly go up by little.
    Sequence,
    /// A text of few values.
    Name,
    /// A text that differs from row to row.
    Text,
    /// True or false.
    Flag,
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) is_optional: bool,
}

impl Column {
    /// Returns a column that every row has.
    pub(super) const fn required(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, is_optional: false }
    }

    /// Returns a column that may be null.
    pub(super) const fn optional(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, is_optional: true }
    }

    /// Returns the column in the language of Parquet schemas.
    fn schema(&self) -> String {
        let repetition = if self.is_optional { "optional" } else { "required" };
        let (physical, logical) = match self.kind {
            Kind::Money => ("int64", " (DECIMAL(18,6))"),
            Kind::Count => ("int64", " (DECIMAL(18,2))"),
            Kind::Time => ("int64", " (TIMESTAMP(MICROS,true))"),
            Kind::Integer | Kind::Sequence => ("int64", ""),
            Kind::Name | Kind::Text => ("binary", " (STRING)"),
            Kind::Flag => ("boolean", ""),
        };
        format!("{repetition} {physical} {}{logical};", self.name)
    }
}

/// A table.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) columns: &'static [Column],
    /// True if the rows of a row group are sorted by the column `ticker`, and by their order.
    pub(super) is_sorted: bool,
}

/// A value of a row: decimals in units of their last digit, times in microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Null,
    Number(i64),
    Text(&'a str),
    Flag(bool),
}

impl From<Option<i64>> for Value<'_> {
    fn from(number: Option<i64>) -> Self {
        number.map_or(Self::Null, Self::Number)
    }
}

impl<'a> From<Option<&'a str>> for Value<'a> {
    fn from(text: Option<&'a str>) -> Self {
        text.map_or(Self::Null, Self::Text)
    }
}

impl From<Option<bool>> for Value<'_> {
    fn from(flag: Option<bool>) -> Self {
        flag.map_or(Self::Null, Self::Flag)
    }
}

/// The values of a column that wait to be written.
#[derive(Debug)]
enum Cells {
    Numbers(Vec<i64>),
    /// The texts, one behind the other, and their ends.
    Texts(Vec<u8>, Vec<usize>),
    Flags(Vec<bool>),
}

impl Cells {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Money | Kind::Count | Kind::Time | Kind::Integer | Kind::Sequence => {
                Self::Numbers(Vec::new())
            }
            Kind::Name | Kind::Text => Self::Texts(Vec::new(), Vec::new()),
            Kind::Flag => Self::Flags(Vec::new()),
        }
    }

    fn clear(&mut self) {
        match self {
            Self::Numbers(values) => values.clear(),
            Self::Texts(bytes, ends) => {
                bytes.clear();
                ends.clear();
            }
            Self::Flags(values) => values.clear(),
        }
    }

    fn range(ends: &[usize], row: usize) -> Range<usize> {
        let start = row.checked_sub(1).and_then(|before| ends.get(before)).copied();
        start.unwrap_or_default()..ends.get(row).copied().unwrap_or_default()
    }

    fn text(&self, row: usize) -> &[u8] {
        match self {
            Self::Texts(bytes, ends) => bytes.get(Self::range(ends, row)).unwrap_or_default(),
            _ => &[],
        }
    }
}

/// A file that is being written.
pub(super) struct TableFile {
    writer: SerializedFileWriter<File>,
    table: &'static Table,
    path: PathBuf,
    draft: PathBuf,
    cells: Vec<Cells>,
    /// Of each column, whether the row has a value; only of those that may be null.
    levels: Vec<Vec<i16>>,
    group_rows: usize,
    group_bytes: usize,
    rows: u64,
}

impl TableFile {
    /// Begins a file. An unfinished one of the same name is written over.
    ///
    /// # Errors
    ///
    /// The disk failed.
    pub(super) fn create(path: PathBuf, table: &'static Table) -> Outcome<Self> {
        let draft = draft(&path);
        let file = File::create(&draft).map_err(|error| failed(&draft, &error))?;
        let writer = schema(table)
            .and_then(|schema| {
                SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties(table)))
            })
            .map_err(|error| failed(&draft, &error))?;
        Ok(Self {
            writer,
            table,
            path,
            draft,
            cells: table.columns.iter().map(|column| Cells::new(column.kind)).collect(),
            levels: table.columns.iter().map(|_| Vec::new()).collect(),
            group_rows: 0,
            group_bytes: 0,
            rows: 0,
        })
    }

    /// Adds a row, with a value for each column.
    ///
    /// # Errors
    ///
    /// A value that does not fit its column; the disk failed.
    pub(super) fn row(&mut self, row: &[Value<'_>]) -> Outcome {
        let columns = self.table.columns;
        if row.len() != columns.len() {
            let (name, found) = (self.table.name, row.len());
            return Err(Failure::local(format!("a row of {name} has {found} values")));
        }
        for (column, value) in columns.iter().zip(row) {
            check(column, *value)?;
        }
        let cells = self.cells.iter_mut().zip(&mut self.levels);
        for ((column, value), (cells, levels)) in columns.iter().zip(row).zip(cells) {
            if column.is_optional {
                levels.push(i16::from(*value != Value::Null));
            }
            // A null has a place of its own, so that all columns have the same places.
            match (cells, value) {
                (Cells::Numbers(cells), Value::Number(number)) => cells.push(*number),
                (Cells::Numbers(cells), _) => cells.push(0),
                (Cells::Flags(cells), Value::Flag(flag)) => cells.push(*flag),
                (Cells::Flags(cells), _) => cells.push(false),
                (Cells::Texts(bytes, ends), value) => {
                    if let Value::Text(text) = value {
                        bytes.extend_from_slice(text.as_bytes());
                        self.group_bytes = self.group_bytes.saturating_add(text.len());
                    }
                    ends.push(bytes.len());
                }
            }
        }
        self.rows += 1;
        self.group_rows += 1;
        if self.group_rows >= GROUP_ROWS || self.group_bytes >= GROUP_BYTES {
            self.write_group()?;
        }
        Ok(())
    }

    /// Writes the rows that wait.
    fn write_group(&mut self) -> Outcome {
        if self.group_rows == 0 {
            return Ok(());
        }
        let order = self.order();
        write_group(&mut self.writer, &self.cells, &self.levels, &order)
            .map_err(|error| failed(&self.draft, &error))?;
        self.cells.iter_mut().for_each(Cells::clear);
        self.levels.iter_mut().for_each(Vec::clear);
        self.group_rows = 0;
        self.group_bytes = 0;
        Ok(())
    }

    /// Returns the order in which the rows of a group are written.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.group_rows).collect();
        let ticker = self.table.columns.iter().position(|column| column.name == "ticker");
        if let Some(cells) = ticker.and_then(|at| self.cells.get(at))
            && self.table.is_sorted
        {
            order.sort_by(|one, other| cells.text(*one).cmp(cells.text(*other)));
        }
        order
    }

    /// Ends the file: it is on the disk, then it has its name. Returns the number of its rows.
    ///
    /// # Errors
    ///
    /// The disk failed. The file is not there then.
    pub(super) fn finish(mut self, source: &[(&str, String)]) -> Outcome<u64> {
        self.write_group()?;
        let common = [
            ("kalshi.schema_version", SCHEMA_VERSION.to_owned()),
            ("kalshi.table", self.table.name.to_owned()),
            ("kalshi.sdk_version", env!("CARGO_PKG_VERSION").to_owned()),
        ];
        for (key, value) in common.iter().chain(source) {
            let pair = KeyValue::new((*key).to_owned(), value.clone());
            self.writer.append_key_value_metadata(pair);
        }
        let (draft, path) = (self.draft, self.path);
        let file = self.writer.into_inner().map_err(|error| failed(&draft, &error))?;
        let name = || {
            file.sync_all()?;
            fs::rename(&draft, &path)?;
            sync_folder(&path)
        };
        name().map_err(|error| failed(&path, &error))?;
        Ok(self.rows)
    }
}

/// Returns the schema of a table.
pub(super) fn schema(table: &Table) -> Result<Type, ParquetError> {
    let fields: String = table.columns.iter().map(Column::schema).collect();
    parse_message_type(&format!("message {} {{ {fields} }}", table.name))
}

/// Returns the name of a file that is not whole yet.
pub(super) fn draft(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

/// Makes the name of a file last.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        // Only there can a folder be opened as a file.
        Some(folder) if cfg!(unix) => {
            let here = Path::new(".");
            File::open(if folder.as_os_str().is_empty() { here } else { folder })?.sync_all()
        }
        _ => Ok(()),
    }
}

fn failed(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::local(format!("could not write {}: {error}", path.display()))
}

/// Refuses a value that does not fit.
fn check(column: &Column, value: Value<'_>) -> Outcome {
    let name = column.name;
    match (column.kind, value) {
        (_, Value::Null) if column.is_optional => Ok(()),
        (Kind::Money | Kind::Count, Value::Number(number))
            if !(-DECIMAL_MAX..=DECIMAL_MAX).contains(&number) =>
        {
            Err(Failure::local(format!(
                "{name} has more than 18 digits ({number} in units of its last digit), and does \
                 not fit a Parquet column of this schema; use --format ndjson"
            )))
        }
        (
            Kind::Money | Kind::Count | Kind::Time | Kind::Integer | Kind::Sequence,
            Value::Number(_),
        )
        | (Kind::Name | Kind::Text, Value::Text(_))
        | (Kind::Flag, Value::Flag(_)) => Ok(()),
        (_, value) => Err(Failure::local(format!("{name} cannot be {value:?}"))),
    }
}

fn properties(table: &Table) -> WriterProperties {
    let level = ZstdLevel::try_new(ZSTD_LEVEL).unwrap_or_default();
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_created_by(concat!("kalshi ", env!("CARGO_PKG_VERSION")).to_owned());
    for column in table.columns {
        let path = ColumnPath::from(column.name);
        properties = match column.kind {
            Kind::Time | Kind::Sequence => properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED),
            Kind::Text | Kind::Flag => properties.set_column_dictionary_enabled(path, false),
            Kind::Name if column.name == "ticker" => properties
                .set_column_bloom_filter_enabled(path.clone(), true)
                .set_column_bloom_filter_fpp(path.clone(), 0.01)
                .set_column_bloom_filter_max_ndv(path, 16_384),
            Kind::Name | Kind::Money | Kind::Count | Kind::Integer => properties,
        };
    }
    let ticker = table.columns.iter().position(|column| column.name == "ticker");
    if let Some(place) = ticker.and_then(|place| i32::try_from(place).ok())
        && table.is_sorted
    {
        let by = SortingColumn { column_idx: place, descending: false, nulls_first: false };
        properties = properties.set_sorting_columns(Some(vec![by]));
    }
    properties.build()
}

fn write_group(
    writer: &mut SerializedFileWriter<File>,
    cells: &[Cells],
    levels: &[Vec<i16>],
    order: &[usize],
) -> Result<(), ParquetError> {
    let mut group = writer.next_row_group()?;
    let mut columns = cells.iter().zip(levels);
    while let Some(mut column) = group.next_column()? {
        if let Some((cells, levels)) = columns.next() {
            write_column(&mut column, cells, levels, order)?;
        }
        column.close()?;
    }
    group.close()?;
    Ok(())
}

fn write_column(
    column: &mut SerializedColumnWriter<'_>,
    cells: &Cells,
    levels: &[i16],
    order: &[usize],
) -> Result<(), ParquetError> {
    match cells {
        Cells::Numbers(values) => {
            let value = |row: usize| values.get(row).copied().unwrap_or_default();
            write_values(column.typed::<Int64Type>(), levels, order, value)
        }
        Cells::Flags(values) => {
            let value = |row: usize| values.get(row).copied().unwrap_or_default();
            write_values(column.typed::<BoolType>(), levels, order, value)
        }
        Cells::Texts(..) => {
            let value = |row: usize| ByteArray::from(cells.text(row).to_vec());
            write_values(column.typed::<ByteArrayType>(), levels, order, value)
        }
    }
}

fn write_values<T: DataType>(
    writer: &mut ColumnWriterImpl<'_, T>,
    levels: &[i16],
    order: &[usize],
    value: impl Fn(usize) -> T::T,
) -> Result<(), ParquetError> {
    for rows in order.chunks(BATCH_ROWS) {
        if levels.is_empty() {
            let values: Vec<T::T> = rows.iter().map(|row| value(*row)).collect();
            writer.write_batch(&values, None, None)?;
            continue;
        }
        let level = |row: &usize| levels.get(*row).copied().unwrap_or_default();
        let levels: Vec<i16> = rows.iter().map(level).collect();
        let has = rows.iter().zip(&levels).filter(|(_, level)| **level > 0);
        let values: Vec<T::T> = has.map(|(row, _)| value(*row)).collect();
        writer.write_batch(&values, Some(&levels), None)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use parquet::{
        file::reader::{FileReader as _, SerializedFileReader},
        record::{Field, RowAccessor as _},
    };

    use super::*;

    static TABLE: Table = Table {
        name: "prices",
        columns: &[
            Column::required("ticker", Kind::Name),
            Column::optional("price", Kind::Money),
            Column::required("at", Kind::Time),
            Column::required("n", Kind::Sequence),
            Column::optional("is_block", Kind::Flag),
        ],
        is_sorted: true,
    };

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("kalshi-{name}-{}.parquet", std::process::id()))
    }

    #[test]
    fn values_come_back_sorted_by_ticker_and_in_their_order() {
        let path = path("sorted");
        let mut file = TableFile::create(path.clone(), &TABLE).unwrap();
        let rows = 3 * BATCH_ROWS;
        for n in 0..rows {
            let ticker = ["B", "A", "C"][n % 3];
            let n = i64::try_from(n).unwrap();
            let price = (n % 2 == 0).then_some(DECIMAL_MAX - n);
            let flag = (n % 5 == 0).then_some(n % 10 == 0);
            let time = Value::Number(-n);
            let row = [Value::Text(ticker), price.into(), time, Value::Number(n), flag.into()];
            file.row(&row).unwrap();
        }
        assert!(!path.exists(), "it has its name when it is whole");
        assert_eq!(file.finish(&[("kalshi.source", "a test".to_owned())]).unwrap(), rows as u64);
        assert!(!draft(&path).exists());
        let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
        let pairs = reader.metadata().file_metadata().key_value_metadata().unwrap();
        let value = |key: &str| pairs.iter().find(|pair| pair.key == key).unwrap().value.clone();
        assert_eq!(value("kalshi.source").as_deref(), Some("a test"));
        assert_eq!(value("kalshi.schema_version").as_deref(), Some(SCHEMA_VERSION));
        let mut expected: Vec<usize> = (0..rows).collect();
        expected.sort_by_key(|n| (["B", "A", "C"][n % 3], *n));
        for (row, n) in reader.get_row_iter(None).unwrap().zip(&expected) {
            let row = row.unwrap();
            let number = i64::try_from(*n).unwrap();
            assert_eq!(row.get_string(0).unwrap(), ["B", "A", "C"][n % 3]);
            assert_eq!(row.get_timestamp_micros(2).unwrap(), -number);
            assert_eq!(row.get_long(3).unwrap(), number);
            let fields: Vec<&Field> = row.get_column_iter().map(|(_, field)| field).collect();
            match fields[1] {
                Field::Null => assert_eq!(n % 2, 1),
                Field::Decimal(price) => {
                    let digits = i64::from_be_bytes(price.data().try_into().unwrap());
                    assert_eq!((digits, price.scale()), (DECIMAL_MAX - number, 6));
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(*fields[4] == Field::Null, n % 5 != 0);
        }
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_does_not_fit_is_refused_and_never_rounded() {
        let path = path("refused");
        let mut file = TableFile::create(path.clone(), &TABLE).unwrap();
        let row = |price| {
            let (text, one) = (Value::Text("A"), Value::Number(1));
            [text, price, one, one, Value::Flag(true)]
        };
        file.row(&row(Value::Number(DECIMAL_MAX))).unwrap();
        file.row(&row(Value::Number(-DECIMAL_MAX))).unwrap();
        for wrong in [Value::Number(DECIMAL_MAX + 1), Value::Number(i64::MIN), Value::Text("1")] {
            let failure = file.row(&row(wrong)).unwrap_err();
            assert!(failure.message.starts_with("price"), "{}", failure.message);
        }
        let [ticker, ..] = row(Value::Null);
        let nameless = [Value::Null, Value::Null, ticker, ticker, ticker];
        assert!(file.row(&nameless).is_err(), "a ticker is never null");
        assert!(file.row(&[ticker]).is_err(), "a row has all columns");
        assert_eq!(file.finish(&[]).unwrap(), 2, "what was refused is not there");
        fs::remove_file(path).unwrap();
    }
}
