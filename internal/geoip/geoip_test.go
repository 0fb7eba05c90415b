package geoip

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
)

// write makes a database of networks and their entries.
func write(t testing.TB, entries map[string]mmdbtype.Map) string {
	t.Helper()
	// The writer refuses the networks of documentation unless it is told.
	tree, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "Test-City", IncludeReservedNetworks: true, RecordSize: 24})
	if err != nil {
		t.Fatal(err)
	}
	for prefix, entry := range entries {
		_, network, err := net.ParseCIDR(prefix)
		if err != nil {
			t.Fatal(err)
		}
		if err := tree.Insert(network, entry); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "test.mmdb")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := tree.WriteTo(f); err != nil {
		t.Fatal(err)
	}
	return file
}

func location(lat, lon float64) mmdbtype.Map {
	return mmdbtype.Map{"latitude": mmdbtype.Float64(lat), "longitude": mmdbtype.Float64(lon)}
}

func code(key, code string) mmdbtype.Map {
	return mmdbtype.Map{mmdbtype.String(key): mmdbtype.String(code)}
}

func TestLookup(t *testing.T) {
	db, err := Open(write(t, map[string]mmdbtype.Map{
		"192.0.2.0/24":    {"location": location(50.1, 8.7), "country": code("iso_code", "US")},
		"198.51.100.0/24": {"country": code("iso_code", "DE"), "continent": code("code", "EU")},
		"203.0.113.0/25":  {"country": code("iso_code", "ZZ"), "continent": code("code", "SA")},
		"203.0.113.128/25": {"location": mmdbtype.Map{"latitude": mmdbtype.Float64(1)}, // half a location
			"registered_country": code("iso_code", "DE")},
		"233.252.0.0/24": {"location": location(91, 8.7), "continent": code("code", "AF")},
		"233.252.1.0/24": {"location": mmdbtype.String("here"), "country": code("iso_code", "DE")},
		"2001:db8::/32":  {"location": location(-33.9, 151.2)},
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if db.Kind() != "Test-City" {
		t.Errorf("it is a %s", db.Kind())
	}
	for addr, want := range map[string]*[2]float64{
		"192.0.2.9":        {50.1, 8.7}, // the finer one
		"::ffff:192.0.2.9": {50.1, 8.7},
		"198.51.100.1":     {50.9, 9.8},
		"203.0.113.1":      {-20, -50}, // a country that is none
		"203.0.113.200":    nil,
		"233.252.0.1":      {5, 20}, // a place that is none
		"233.252.1.1":      nil,     // an entry of another form
		"2001:db8:1::9":    {-33.9, 151.2},
		"127.0.0.1":        nil,
		"8.8.8.8":          nil,
		"fe80::1":          nil,
	} {
		lat, lon, ok := db.Lookup(netip.MustParseAddr(addr))
		if ok != (want != nil) || ok && [2]float64{lat, lon} != *want {
			t.Errorf("%s: %v, %v, %v", addr, lat, lon, ok)
		}
	}
	if _, _, ok := db.Lookup(netip.Addr{}); ok {
		t.Error("no address is somewhere")
	}
}

func TestOpenRefuses(t *testing.T) {
	good := write(t, map[string]mmdbtype.Map{"192.0.2.0/24": {"location": location(1, 2)}})
	body, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"empty": nil, "text": []byte("not a database"), "cut": body[:len(body)/2]} {
		file := filepath.Join(t.TempDir(), "bad.mmdb")
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if db, err := Open(file); err == nil || !strings.Contains(err.Error(), "GeoIP") {
			t.Errorf("%s: %v, %v", name, db, err)
		}
	}
	if _, err := Open(filepath.Join(t.TempDir(), "missing.mmdb")); err == nil {
		t.Error("a file that is not there was opened")
	}
}

// TestPlaces: each of the table is on the earth, and a name that people know.
func TestPlaces(t *testing.T) {
	for _, table := range []map[string][2]float64{countries, continents} {
		for name, at := range table {
			if len(name) != 2 || at[0] < -90 || at[0] > 90 || at[1] < -180 || at[1] > 180 {
				t.Errorf("%s is at %v", name, at)
			}
		}
	}
}

// FuzzLookup: whatever the database holds, a lookup does not panic.
func FuzzLookup(f *testing.F) {
	body, err := os.ReadFile(write(f, map[string]mmdbtype.Map{
		"0.0.0.0/1": {"location": location(1, 2), "country": code("iso_code", "DE")}, "128.0.0.0/1": {"continent": code("code", "EU")},
	}))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Fuzz(func(t *testing.T, body []byte) {
		file := filepath.Join(t.TempDir(), "fuzz.mmdb")
		if err := os.WriteFile(file, body, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := Open(file)
		if err != nil {
			return
		}
		defer db.Close()
		for _, a := range []string{"1.2.3.4", "200.1.2.3", "2001:db8::1"} {
			db.Lookup(netip.MustParseAddr(a))
		}
	})
}
