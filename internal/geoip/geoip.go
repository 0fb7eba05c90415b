package geoip

import (
	"fmt"
	"math"
	"net/netip"

	"github.com/oschwald/maxminddb-golang/v2"
)

// DB is an open database. Safe for concurrent use.
type DB struct {
	reader *maxminddb.Reader
}

// Open opens a database file and reads an entry of it, so that what is none fails
// at the start. The file may be replaced by another one (not written to) while it
// is open; it is seen at the next start.
func Open(file string) (*DB, error) {
	r, err := maxminddb.Open(file)
	if err != nil {
		return nil, fmt.Errorf("open GeoIP database: %w", err)
	}
	var any record
	if err := r.Lookup(netip.AddrFrom4([4]byte{1, 1, 1, 1})).Decode(&any); err != nil {
		r.Close()
		return nil, fmt.Errorf("open GeoIP database %s: %w", file, err)
	}
	return &DB{r}, nil
}

// Close closes it. No Lookup may be under way.
func (db *DB) Close() error { return db.reader.Close() }

// Kind says what the database is, by its own word.
func (db *DB) Kind() string { return db.reader.Metadata.DatabaseType }

// record is what is read of an entry.
type record struct {
	Location struct {
		Lat *float64 `maxminddb:"latitude"`
		Lon *float64 `maxminddb:"longitude"`
	} `maxminddb:"location"`
	Country   place `maxminddb:"country"`
	Continent struct {
		Code string `maxminddb:"code"`
	} `maxminddb:"continent"`
}

type place struct {
	Code string `maxminddb:"iso_code"`
}

// Lookup is the latitude and longitude of an address in degrees. An entry that
// cannot be read is one that is not there.
func (db *DB) Lookup(a netip.Addr) (lat, lon float64, ok bool) {
	if !a.IsValid() {
		return 0, 0, false
	}
	var r record
	if err := db.reader.Lookup(a.Unmap()).Decode(&r); err != nil {
		return 0, 0, false
	}
	if r.Location.Lat != nil && r.Location.Lon != nil && math.Abs(*r.Location.Lat) <= 90 && math.Abs(*r.Location.Lon) <= 180 {
		return *r.Location.Lat, *r.Location.Lon, true
	}
	if at, ok := countries[r.Country.Code]; ok {
		return at[0], at[1], true
	}
	if at, ok := continents[r.Continent.Code]; ok {
		return at[0], at[1], true
	}
	return 0, 0, false
}
