package inbox

import (
	"context"
	"database/sql/driver"
	"encoding/binary"
	"fmt"
	"net/url"
	"strings"
)

// Rows are taken out of the pages of a damaged database without SQLite, which
// finds none of a table's rows behind a page that it cannot read. The check sum
// of each row says whether it is one. (https://www.sqlite.org/fileformat2.html)

const (
	indexInterior = 0x02
	indexLeaf     = 0x0a
	tableLeaf     = 0x0d

	// How much of a row stands in its page, when the rest overflows into others.
	maxLocal = pageSize - 35
	minLocal = (pageSize-12)*32/255 - 23
	// A row that is larger is none.
	maxRow = 1 << 24
)

// carveTable is a table with check sums. The sum is over the columns before it.
type carveTable struct {
	name    string
	columns []string
	sum     int // its place
	insert  string
}

// carved is a row.
type carved struct {
	table  *carveTable
	id     int64
	values []driver.Value // without the sum
	raw    bool           // nothing in its page leads to it
}

// carver takes rows out of pages.
type carver struct {
	tables map[int][]*carveTable // by the number of columns
	// overflow returns a page, nil if there is none.
	overflow func(page uint32) []byte
}

func newCarver(ctx context.Context, overflow func(uint32) []byte) (*carver, error) {
	db, err := openSQLite(":memory:", 1, url.Values{})
	if err != nil {
		return nil, err
	}
	defer db.Close()
	c := &carver{tables: make(map[int][]*carveTable), overflow: overflow}
	for _, statement := range schema {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return nil, err
		}
	}
	rows, err := db.QueryContext(ctx, `SELECT t.name, c.name FROM sqlite_schema t, pragma_table_xinfo(t.name) c
		WHERE t.type = 'table' ORDER BY t.name, c.cid`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := make(map[string]*carveTable)
	for rows.Next() {
		var table, column string
		if err := rows.Scan(&table, &column); err != nil {
			return nil, err
		}
		t := all[table]
		if t == nil {
			t = &carveTable{name: table, sum: -1}
			all[table] = t
		}
		if column == "sum" {
			t.sum = len(t.columns)
		}
		t.columns = append(t.columns, column)
	}
	for _, t := range all {
		if t.sum < 0 {
			continue // refs
		}
		names := append(append([]string{}, t.columns[:t.sum]...), t.columns[t.sum+1:]...)
		t.insert = fmt.Sprintf("INSERT OR IGNORE INTO %s (%s) VALUES (?%s)", t.name, strings.Join(names, ", "), strings.Repeat(", ?", len(names)-1))
		c.tables[len(t.columns)] = append(c.tables[len(t.columns)], t)
	}
	return c, rows.Err()
}

// page returns the rows of a page. It is not whole if rows in it cannot be read;
// then the page is searched for those to which nothing leads any more.
func (c *carver) page(page []byte) (rows []carved, whole bool) {
	if page[0] == tableLeaf {
		if rows, whole = c.leaf(page); whole {
			return rows, true
		}
	}
	found := make(map[int64]bool, len(rows))
	for _, r := range rows {
		found[r.id] = true
	}
	for at := 0; at < len(page)-8; at++ {
		if r, ok := c.cell(page, at); ok && !found[r.id] {
			r.raw = true
			rows = append(rows, r)
		}
	}
	return rows, page[0] != tableLeaf
}

func (c *carver) leaf(page []byte) (rows []carved, whole bool) {
	cells := int(binary.BigEndian.Uint16(page[3:]))
	if 8+2*cells > len(page) {
		return nil, false
	}
	whole = true
	for i := range cells {
		at := int(binary.BigEndian.Uint16(page[8+2*i:]))
		r, ok := c.cell(page, at)
		if !ok {
			whole = false
			continue
		}
		rows = append(rows, r)
	}
	return rows, whole
}

// cell reads the row at a place in a page.
func (c *carver) cell(page []byte, at int) (carved, bool) {
	if at >= len(page) {
		return carved{}, false
	}
	size, n := varint(page[at:])
	if n == 0 || size < 3 || size > maxRow {
		return carved{}, false
	}
	at += n
	id, n := varint(page[at:])
	if n == 0 {
		return carved{}, false
	}
	at += n
	local := localSize(int(size))
	if at+local > len(page) || page[at+1] != 0 { // the id stands as NULL in the row
		return carved{}, false
	}
	types, header := recordTypes(page[at : at+local])
	if len(c.tables[len(types)]) == 0 {
		return carved{}, false
	}
	payload := page[at : at+local]
	if local < int(size) {
		if at+local+4 > len(page) {
			return carved{}, false
		}
		payload = c.assemble(payload, int(size), binary.BigEndian.Uint32(page[at+local:]))
	}
	values, ok := recordValues(payload, header, types)
	if !ok {
		return carved{}, false
	}
	values[0] = int64(id) //nolint:gosec // as SQLite reads it
	for _, t := range c.tables[len(types)] {
		if sum, ok := values[t.sum].(int64); !ok || sum != rowSum(append([]driver.Value{t.name}, values[:t.sum]...)) {
			continue
		}
		values = append(append([]driver.Value{}, values[:t.sum]...), values[t.sum+1:]...)
		return carved{table: t, id: int64(id), values: values}, true //nolint:gosec // as SQLite reads it
	}
	return carved{}, false
}

func localSize(size int) int {
	if size <= maxLocal {
		return size
	}
	if local := minLocal + (size-minLocal)%(pageSize-4); local <= maxLocal {
		return local
	}
	return minLocal
}

// assemble puts a row together with what stands in other pages. What is missing
// there is zero: it is authenticated by itself.
func (c *carver) assemble(local []byte, size int, next uint32) []byte {
	payload := append(make([]byte, 0, size), local...)
	for len(payload) < size && next != 0 {
		page := c.overflow(next)
		if page == nil {
			break
		}
		next = binary.BigEndian.Uint32(page)
		payload = append(payload, page[4:min(pageSize, 4+size-len(payload))]...)
	}
	return payload[:len(payload):size][:size]
}

// uids returns the uids in a page of an index, with the ids of their rows.
func (c *carver) uids(page []byte, found func(uid string, id int64)) {
	first, child := 8, 0
	switch page[0] {
	case indexLeaf:
	case indexInterior:
		first, child = 12, 4
	default:
		return
	}
	cells := int(binary.BigEndian.Uint16(page[3:]))
	for i := range cells {
		if first+2*i+2 > len(page) {
			return
		}
		at := int(binary.BigEndian.Uint16(page[first+2*i:])) + child
		if at >= len(page) {
			continue
		}
		size, n := varint(page[at:])
		at += n
		if n == 0 || size > 100 || at+int(size) > len(page) {
			continue
		}
		types, header := recordTypes(page[at : at+int(size)])
		if len(types) != 2 {
			continue
		}
		values, ok := recordValues(page[at:at+int(size)], header, types)
		if !ok {
			continue
		}
		uid, isText := values[0].(string)
		id, isInt := values[1].(int64)
		if isText && isInt && isUID(uid) {
			found(uid, id)
		}
	}
}

// varint reads one of SQLite's integers. n is 0 if there is none.
func varint(b []byte) (v uint64, n int) {
	for i := 0; i < 9 && i < len(b); i++ {
		if i == 8 {
			return v<<8 | uint64(b[i]), 9
		}
		v = v<<7 | uint64(b[i]&0x7f)
		if b[i] < 0x80 {
			return v, i + 1
		}
	}
	return 0, 0
}

// recordTypes reads the header of a record, and returns its length.
func recordTypes(payload []byte) (types []uint64, header int) {
	size, n := varint(payload)
	if n == 0 || size < 2 || size > 64 || int(size) > len(payload) {
		return nil, 0
	}
	for at := n; at < int(size); {
		t, n := varint(payload[at:size])
		if n == 0 {
			return nil, 0
		}
		types = append(types, t)
		at += n
	}
	return types, int(size)
}

func recordValues(payload []byte, at int, types []uint64) ([]driver.Value, bool) {
	values := make([]driver.Value, len(types), len(types)+1)
	for i, t := range types {
		switch {
		case t == 0:
		case t <= 6:
			size := [...]int{0, 1, 2, 3, 4, 6, 8}[t]
			if at+size > len(payload) {
				return nil, false
			}
			v := int64(int8(payload[at])) //nolint:gosec // with its sign
			for _, b := range payload[at+1 : at+size] {
				v = v<<8 | int64(b)
			}
			values[i] = v
			at += size
		case t == 8, t == 9:
			values[i] = int64(t - 8)
		case t >= 12:
			size := (t - 12) / 2
			if size > maxRow || at+int(size) > len(payload) {
				return nil, false
			}
			data := payload[at : at+int(size)]
			if t%2 == 0 {
				values[i] = append([]byte{}, data...)
			} else {
				values[i] = string(data)
			}
			at += int(size)
		default: // nothing here is a fraction
			return nil, false
		}
	}
	return values, true
}
