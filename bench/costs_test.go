package bench_test

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"voicefleet/bench"
)

func TestCostTable(t *testing.T) {
	// 500 users on half a core and 40 Mbit/s are 1 core and 80 Mbit/s for 1,000:
	// 10 MB/s, 26,280 GB in a month of 730 h, a quarter of it 6,570 GB.
	u := bench.Usage{Users: 500, Cores: .5, BitsPerSecond: 40e6}
	p := bench.Prices{Name: "test", Currency: "EUR", CoreHour: .1, GigabyteOut: .01, PlannedShare: .5, TalkingShare: .25, Machines: []bench.MachinePrice{
		{Name: "by cores", Month: 10, Cores: 4, MbitPerSecond: 1000, GigabytesIncluded: 1e6},
		{Name: "by line", Month: 10, Cores: 64, MbitPerSecond: 100, GigabytesIncluded: 1000},
	}}
	got := bench.CostTable(u, p)
	for i, want := range [][]string{
		{"CPU", "1.00 cores"},
		{"out", "80.0 Mbit/s"},
		{"out in a month", "6570 GB"},
		{"CPU in a month, at 0.1 EUR for a core and an hour", "146.00 EUR"}, // 2 cores
		{"out in a month, at 0.01 EUR for a GB", "65.70 EUR"},
		{"both in a month", "211.70 EUR"},
		{"0.50 of a by cores in a month", "5.00 EUR"},
		{"1.60 of a by line in a month", "65.70 EUR"}, // 16 and 4,970 GB
	} {
		if row := got.Rows[i]; row[0] != want[0] || row[1] != want[1] {
			t.Errorf("%q, want %q", row, want)
		}
	}
	if !strings.Contains(got.Title, "test") {
		t.Errorf("the title %q does not say whose prices", got.Title)
	}
	for _, u := range []bench.Usage{{}, {Users: math.NaN()}, {Users: 1, Cores: math.Inf(1)}} {
		if rows := bench.CostTable(u, p).Rows; len(rows) != 1 || rows[0][0] != "void" {
			t.Errorf("%+v: %v", u, rows)
		}
	}
	if rows := bench.CostTable(u, bench.Prices{}).Rows; len(rows) != 2 {
		t.Errorf("without prices: %v", rows)
	}
}

func TestExamplePrices(t *testing.T) {
	p := bench.ExamplePrices()
	if !strings.Contains(p.Name, "invented") || p.Currency != "EUR" || p.CoreHour != .03 || p.PlannedShare != .7 || len(p.Machines) != 2 || p.Machines[1].Cores != 16 {
		t.Errorf("%+v", p)
	}
	if named, err := bench.LoadPrices(""); err != nil || named.Name != p.Name {
		t.Errorf("%+v, %v", named, err)
	}
	file := filepath.Join(t.TempDir(), "copy.yaml")
	if err := os.WriteFile(file, bench.ExamplePriceFile(), 0o644); err != nil {
		t.Fatal(err)
	}
	if named, err := bench.LoadPrices(file); err != nil || named.CoreHour != p.CoreHour {
		t.Errorf("%+v, %v", named, err)
	}
}

func TestPricesRefused(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", "line 1: want one list of fields"},
		{"- 1\n", "line 1: the file: want fields"},
		{"currency: EUR\ncore_our: 1\n", "line 2: core_our: no such field"},
		{"currency: EUR\ncore_hour: cheap\n", `line 2: core_hour: "cheap" is no price`},
		{"currency: EUR\n\ncore_hour: -1\n", `line 3: core_hour: "-1" is no price`},
		{"currency: EUR\ncore_hour: .nan\n", "line 2: core_hour"},
		{"currency: EUR\ncore_hour: 1\ncore_hour: 2\n", "line 3: "},
		{"currency: EUR\ncore_hour:\n", "line 2: core_hour"},
		{"currency: [a]\ncore_hour: 1\n", "line 1: currency: want a text"},
		{"core_hour: 1\n", "line 1: currency: is missing"},
		{"currency: EUR\n", "core_hour and machines are both missing"},
		{"currency: EUR\ncore_hour: 1\nplanned_share: 2\n", "line 3: planned_share: 2 is no share"},
		{"currency: EUR\ncore_hour: 1\ntalking_share: 0\n", "line 3: talking_share: 0 is no share"},
		{"currency: EUR\nmachines: 3\n", "line 2: machines: want a list"},
		{"currency: EUR\nmachines:\n  - name: m\n    month: 1\n    cores: 0\n    mbit_per_second: 1\n", "line 5: machines[0].cores: is missing or 0"},
		{"currency: EUR\nmachines:\n  - name: m\n    month: 1\n    cores: 1\n", "machines[0].mbit_per_second: is missing"},
		{"currency: EUR\nmachines:\n  - name: m\n    core: 1\n", "line 4: core: no such field"},
		{"currency: \"EUR\ncore_hour: 1\n", "line 1"},
		{strings.Repeat("# long\n", 20000), "more than 64 KiB"},
	} {
		file := filepath.Join(t.TempDir(), "prices.yaml")
		if err := os.WriteFile(file, []byte(c.in), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := bench.LoadPrices(file); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "prices.yaml") {
			t.Errorf("%.60q: %v, want %q", c.in, err, c.want)
		}
	}
	if _, err := bench.LoadPrices("no-such-file"); err == nil || !strings.Contains(err.Error(), "no-such-file") {
		t.Error(err)
	}
}

// FuzzPrices holds that a file makes prices one can reckon with, or an error.
func FuzzPrices(f *testing.F) {
	f.Add(string(bench.ExamplePriceFile()))
	f.Add("currency: &a EUR\nname: *a\ncore_hour: !!int 1\n")
	f.Add("currency: EUR\nmachines:\n- {name: m, month: 1, cores: 1, mbit_per_second: 1}\n- *x\n")
	f.Add("? [a]\n: b\n")
	f.Add("a:\n<<: *b\n---\n...")
	file := filepath.Join(f.TempDir(), "prices.yaml")
	f.Fuzz(func(t *testing.T, in string) {
		if err := os.WriteFile(file, []byte(in), 0o644); err != nil {
			t.Fatal(err)
		}
		p, err := bench.LoadPrices(file)
		if err != nil {
			return
		}
		for _, row := range bench.CostTable(bench.Usage{Users: 1, Cores: 1, BitsPerSecond: 1}, p).Rows {
			if strings.Contains(row[1], "NaN") || strings.Contains(row[1], "Inf") || strings.HasPrefix(row[1], "-") {
				t.Errorf("%q of %q", row, in)
			}
		}
	})
}
