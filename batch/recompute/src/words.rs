//! A Parquet column of words that are numbered already: a dictionary of those that occur, and their numbers in pages.
//!
//! The writer of the `parquet` crate takes a word for each row and finds its number in a hash table, which for a day's
//! minutes took as long as everything else of a table together. Here the numbers are known. Pages, headers and metadata
//! are still the crate's.

use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, Type, ZstdLevel};
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::ByteArray;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, ColumnIndexBuilder, OffsetIndexBuilder};
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

/// Numbers of one page; a reader that looks for one row decodes so many.
const PAGE_ROWS: usize = 16 * 1024;

/// Encodes the column of one row group, which has rows and no nulls: the bytes to append and what is said of them.
/// `words` are sorted, `numbers` are their places.
///
/// # Errors
/// What the `parquet` crate refuses.
pub(crate) fn encode_words(
    column: ColumnDescPtr,
    words: &[Arc<str>],
    numbers: &[u32],
    level: ZstdLevel,
) -> Result<(Bytes, ColumnCloseResult)> {
    let (used, places) = used(words, numbers);
    let [first, last] = [used.first(), used.last()].map(|word| word.map_or(&b""[..], |word| word.as_bytes()));
    let mut sink = TrackedWrite::new(Vec::new());
    let mut pages =
        Pages { level: level.compression_level(), writer: SerializedPageWriter::new(&mut sink), sizes: (0, 0) };

    let mut dictionary = Vec::new();
    for word in &used {
        dictionary.extend_from_slice(&(word.len() as u32).to_le_bytes());
        dictionary.extend_from_slice(word.as_bytes());
    }
    let count = used.len() as u32;
    let dictionary_at = pages.write(&dictionary, |buf| Page::DictionaryPage {
        buf,
        num_values: count,
        encoding: Encoding::PLAIN,
        is_sorted: true,
    })?;

    let width = (u32::BITS - count.saturating_sub(1).leading_zeros()).max(1) as usize;
    let (mut offsets, mut bounds) = (OffsetIndexBuilder::new(), ColumnIndexBuilder::new(Type::BYTE_ARRAY));
    let mut packed = Vec::new();
    let mut data_at = None;
    for rows in numbers.chunks(PAGE_ROWS) {
        packed.clear();
        pack(rows.iter().map(|number| places[*number as usize]), rows.len(), width, &mut packed);
        let page = pages.write(&packed, |buf| Page::DataPage {
            buf,
            num_values: rows.len() as u32,
            encoding: Encoding::RLE_DICTIONARY,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        })?;
        data_at.get_or_insert(page.offset);
        offsets.append_row_count(rows.len() as i64);
        offsets.append_offset_and_size(page.offset as i64, page.size as i32);
        let bound = |number: Option<&u32>| number.map_or_else(Vec::new, |n| words[*n as usize].as_bytes().to_vec());
        bounds.append(false, bound(rows.iter().min()), bound(rows.iter().max()), 0);
    }
    let Pages { writer: _, sizes: (compressed, uncompressed), .. } = pages;

    let statistics = Statistics::new::<ByteArray>(Some(first.into()), Some(last.into()), None, Some(0), false);
    let metadata = ColumnChunkMetaData::builder(column)
        .set_encodings(vec![Encoding::PLAIN, Encoding::RLE, Encoding::RLE_DICTIONARY])
        .set_num_values(numbers.len() as i64)
        .set_compression(Compression::ZSTD(level))
        .set_total_compressed_size(compressed as i64)
        .set_total_uncompressed_size(uncompressed as i64)
        .set_dictionary_page_offset(Some(dictionary_at.offset as i64))
        .set_data_page_offset(data_at.unwrap_or(compressed) as i64)
        .set_statistics(statistics)
        .build()?;
    let close = ColumnCloseResult {
        bytes_written: compressed,
        rows_written: numbers.len() as u64,
        metadata,
        bloom_filter: None,
        column_index: Some(bounds.build()?),
        offset_index: Some(offsets.build()),
    };
    Ok((sink.into_inner()?.into(), close))
}

/// The words that occur, in their order, and for each word its place among them.
fn used<'a>(words: &'a [Arc<str>], numbers: &[u32]) -> (Vec<&'a Arc<str>>, Vec<u32>) {
    let mut places = vec![u32::MAX; words.len()];
    for number in numbers {
        places[*number as usize] = 0;
    }
    let mut used = Vec::new();
    for (word, place) in words.iter().zip(&mut places).filter(|(_, place)| **place == 0) {
        *place = used.len() as u32;
        used.push(word);
    }
    (used, places)
}

/// Numbers of `width` bits each, the lowest bit first, as one bit-packed run of the hybrid encoding behind its width.
fn pack(numbers: impl Iterator<Item = u32>, count: usize, width: usize, to: &mut Vec<u8>) {
    to.push(width as u8);
    let groups = count.div_ceil(8);
    let mut header = groups << 1 | 1;
    while header >= 0x80 {
        to.push(header as u8 | 0x80);
        header >>= 7;
    }
    to.push(header as u8);
    let end = to.len() + groups * width;
    let (mut bits, mut filled) = (0u64, 0);
    for number in numbers {
        bits |= u64::from(number) << filled;
        filled += width;
        if filled >= 32 {
            to.extend_from_slice(&(bits as u32).to_le_bytes());
            bits >>= 32;
            filled -= 32;
        }
    }
    to.extend_from_slice(&bits.to_le_bytes());
    // Groups of eight are whole: zeros follow the last number.
    to.resize(end, 0);
}

/// Pages on their way into a buffer.
struct Pages<'a> {
    level: i32,
    writer: SerializedPageWriter<'a, Vec<u8>>,
    /// Bytes with headers, compressed and not.
    sizes: (u64, u64),
}

/// Where a page lies, and how long it is with its header.
struct Written {
    offset: u64,
    size: usize,
}

impl Pages<'_> {
    fn write(&mut self, content: &[u8], page: impl FnOnce(Bytes) -> Page) -> Result<Written> {
        let compressed =
            zstd::bulk::compress(content, self.level).map_err(|error| ParquetError::External(error.into()))?;
        let written = self.writer.write_page(CompressedPage::new(page(compressed.into()), content.len()))?;
        self.sizes.0 += written.compressed_size as u64;
        self.sizes.1 += written.uncompressed_size as u64;
        Ok(Written { offset: written.offset, size: written.compressed_size })
    }
}
