//! Dates, times, durations and time zones, both ways.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{
    PyDate, PyDateAccess, PyDateTime, PyDelta, PyDeltaAccess, PyTime, PyTimeAccess, PyTzInfo, PyTzInfoAccess,
};

use super::decode::Reader;
use super::encode::Writer;
use super::plan::{self, How, Origin};
use super::refusal::{Done, Fault, Read, Refusal};
use super::tag::{self, ext};

pub fn write(writer: &mut Writer<'_>, value: &Bound<'_, PyAny>, how: &How) -> Done {
    // SAFETY: each plan is that of exactly the type that it is cast to.
    unsafe {
        match how {
            How::Date => {
                writer.out.extend([tag::EXT, ext::DATE]);
                write_date(writer, value.cast_unchecked::<PyDate>());
            }
            How::Time => {
                let time = value.cast_unchecked::<PyTime>();
                writer.out.extend([tag::EXT, ext::TIME]);
                write_time(writer, time);
                return write_zone(writer, time.get_tzinfo());
            }
            How::DateTime => return write_datetime(writer, value.cast_unchecked()),
            How::TimeDelta => {
                let delta = value.cast_unchecked::<PyDelta>();
                writer.out.extend([tag::EXT, ext::TIMEDELTA]);
                writer.out.extend_from_slice(&delta.get_days().to_be_bytes());
                writer.out.extend_from_slice(&delta.get_seconds().to_be_bytes());
                writer.out.extend_from_slice(&delta.get_microseconds().to_be_bytes());
            }
            How::TimeZone => return write_fixed(writer, value),
            _ => return write_zoneinfo(writer, value),
        }
    }
    Ok(())
}

/// The commonest of the types that have a plan: told by its address, without a look at what is kept of classes.
#[inline]
pub fn exact_datetime<'a, 'py>(value: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, PyDateTime>> {
    // SAFETY: attached; null before the first datetime was seen, else the table of the datetime module. Only addresses are
    // compared, then the type is known.
    unsafe {
        let api = ffi::PyDateTimeAPI();
        let is_datetime = !api.is_null() && ffi::Py_TYPE(value.as_ptr()) == (*api).DateTimeType;
        is_datetime.then(|| value.cast_unchecked())
    }
}

pub fn write_datetime(writer: &mut Writer<'_>, moment: &Bound<'_, PyDateTime>) -> Done {
    let (year, micros) = (moment.get_year() as u16, moment.get_microsecond());
    let mut bytes = [0; 14];
    bytes[..2].copy_from_slice(&[tag::EXT, ext::DATETIME]);
    bytes[2..4].copy_from_slice(&year.to_be_bytes());
    bytes[4..9].copy_from_slice(&[
        moment.get_month(),
        moment.get_day(),
        moment.get_hour(),
        moment.get_minute(),
        moment.get_second(),
    ]);
    bytes[9..13].copy_from_slice(&micros.to_be_bytes());
    bytes[13] = u8::from(moment.get_fold());
    writer.out.extend_from_slice(&bytes);
    write_zone(writer, moment.get_tzinfo())
}

fn write_date(writer: &mut Writer<'_>, date: &impl PyDateAccess) {
    writer.out.extend_from_slice(&(date.get_year() as u16).to_be_bytes());
    writer.out.extend([date.get_month(), date.get_day()]);
}

fn write_time(writer: &mut Writer<'_>, time: &impl PyTimeAccess) {
    writer.out.extend([time.get_hour(), time.get_minute(), time.get_second()]);
    writer.out.extend_from_slice(&time.get_microsecond().to_be_bytes());
    writer.out.push(u8::from(time.get_fold()));
}

fn write_zone(writer: &mut Writer<'_>, zone: Option<Bound<'_, PyTzInfo>>) -> Done {
    match zone {
        None => {
            writer.out.push(tag::NONE);
            Ok(())
        }
        Some(zone) if is_utc(&zone) => {
            writer.out.extend([tag::EXT, ext::UTC]);
            Ok(())
        }
        Some(zone) => writer.write(&zone).map_err(|refusal| refusal.inside(".tzinfo")),
    }
}

fn is_utc(zone: &Bound<'_, PyTzInfo>) -> bool {
    PyTzInfo::utc(zone.py()).is_ok_and(|utc| utc.is(zone))
}

fn write_fixed(writer: &mut Writer<'_>, value: &Bound<'_, PyAny>) -> Done {
    let py = value.py();
    let raised = |error| Refusal::raised(py, "reading the time zone", error);
    if PyTzInfo::utc(py).map_err(raised)?.is(value) {
        writer.out.extend([tag::EXT, ext::UTC]);
        return Ok(());
    }
    // (offset,) or (offset, name): what the constructor was given.
    let given = value.call_method0("__getinitargs__").map_err(raised)?;
    writer.out.extend([tag::EXT, ext::TIMEZONE]);
    writer.write(&given.get_item(0).map_err(raised)?)?;
    let name = given.get_item(1).unwrap_or_else(|_| py.None().into_bound(py));
    writer.write(&name)
}

fn write_zoneinfo(writer: &mut Writer<'_>, value: &Bound<'_, PyAny>) -> Done {
    let key = value.getattr("key").map_err(|error| Refusal::raised(value.py(), "ZoneInfo.key", error))?;
    if key.is_none() {
        return Err(Refusal::of_class(
            &value.get_type(),
            ": this one was made from a file and has no key; make it by its key",
        ));
    }
    writer.out.extend([tag::EXT, ext::ZONEINFO]);
    writer.write(&key)
}

pub fn read<'py>(reader: &mut Reader<'_, 'py>, kind: u8, at: usize) -> Read<Bound<'py, PyAny>> {
    let py = reader.py;
    Ok(match kind {
        ext::DATE => {
            let (year, month, day) = read_date(reader)?;
            let made = PyDate::new(py, year, month, day);
            made.map_err(|error| Fault::raised(at, "date()", error))?.into_any()
        }
        ext::TIME => {
            let (hour, minute, second, micros, fold) = read_time(reader)?;
            let zone = read_zone(reader)?;
            let made = PyTime::new_with_fold(py, hour, minute, second, micros, zone.as_ref(), fold);
            made.map_err(|error| Fault::raised(at, "time()", error))?.into_any()
        }
        ext::DATETIME => {
            let (year, month, day) = read_date(reader)?;
            let (hour, minute, second, micros, fold) = read_time(reader)?;
            let zone = read_zone(reader)?;
            let made =
                PyDateTime::new_with_fold(py, year, month, day, hour, minute, second, micros, zone.as_ref(), fold);
            made.map_err(|error| Fault::raised(at, "datetime()", error))?.into_any()
        }
        ext::TIMEDELTA => {
            let days = i32::from_be_bytes(reader.array()?);
            let (seconds, micros) = (i32::from_be_bytes(reader.array()?), i32::from_be_bytes(reader.array()?));
            if !(0..86_400).contains(&seconds) || !(0..1_000_000).contains(&micros) {
                return Err(Fault::at(at, "a timedelta out of its bounds"));
            }
            let made = PyDelta::new(py, days, seconds, micros, false);
            made.map_err(|error| Fault::raised(at, "timedelta()", error))?.into_any()
        }
        ext::UTC => {
            let utc = PyTzInfo::utc(py).map_err(|error| Fault::raised(at, "timezone.utc", error))?;
            utc.to_owned().into_any()
        }
        ext::TIMEZONE => {
            let (offset, name) = (reader.value()?, reader.value()?);
            read_fixed(&offset, &name).map_err(|error| Fault::raised(at, "timezone()", error))?
        }
        _ => {
            let name = reader.name()?;
            let origin = plan::origin_of(py, ext::ZONEINFO, name, at)?;
            let Origin::Constant(zone) = &*origin else { return Err(Fault::at(at, "no time zone")) };
            zone.bind(py).clone()
        }
    })
}

fn read_date(reader: &mut Reader<'_, '_>) -> Read<(i32, u8, u8)> {
    let year = u16::from_be_bytes(reader.array()?);
    let [month, day] = reader.array()?;
    Ok((i32::from(year), month, day))
}

fn read_time(reader: &mut Reader<'_, '_>) -> Read<(u8, u8, u8, u32, bool)> {
    let [hour, minute, second] = reader.array()?;
    let micros = u32::from_be_bytes(reader.array()?);
    let [fold] = reader.array()?;
    if micros >= 1_000_000 || fold > 1 {
        return Err(Fault::at(reader.at, "a time out of its bounds"));
    }
    Ok((hour, minute, second, micros, fold == 1))
}

fn read_zone<'py>(reader: &mut Reader<'_, 'py>) -> Read<Option<Bound<'py, PyTzInfo>>> {
    let at = reader.at;
    if reader.passes(ext::UTC) {
        let utc = PyTzInfo::utc(reader.py).map_err(|error| Fault::raised(at, "timezone.utc", error))?;
        return Ok(Some(utc.to_owned()));
    }
    let zone = reader.value()?;
    if zone.is_none() {
        return Ok(None);
    }
    zone.cast_into::<PyTzInfo>().map(Some).map_err(|_| Fault::at(at, "no time zone"))
}

fn read_fixed<'py>(offset: &Bound<'py, PyAny>, name: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let class = offset.py().import("datetime")?.getattr("timezone")?;
    if name.is_none() { class.call1((offset,)) } else { class.call1((offset, name)) }
}
