package inbox

import (
	"database/sql"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc64"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	modernc "modernc.org/sqlite"
)

// driverName is SQLite with rowsum. It is a driver of its own, so that other
// users of SQLite in the process see nothing of it.
const driverName = "caddy-klavi-inbox"

const (
	pageSize = 4096
	// How long to wait for others who write, in milliseconds: nobody should.
	busyTimeout = 2000
	// A checkpoint at this many pages, or at a part of a small disk. Fewer would
	// write the same pages again and again under load; more need more room.
	checkpointPages = 1000
	checkpointPart  = 32
)

func init() {
	d := new(modernc.Driver)
	err := d.RegisterDeterministicScalarFunction("rowsum", -1, func(_ *modernc.FunctionContext, args []driver.Value) (driver.Value, error) {
		return rowSum(args), nil
	})
	if err != nil {
		panic(err)
	}
	sql.Register(driverName, d)
}

var sumTable = crc64.MakeTable(crc64.ECMA)

// rowSum is the check sum that each row carries. SQLite has none of its own: a
// byte that changes in its file would change what a row says, without anybody
// seeing it.
func rowSum(values []driver.Value) int64 {
	var sum uint64
	var head [9]byte
	for _, value := range values {
		switch v := value.(type) {
		case nil:
			sum = crc64.Update(sum, sumTable, []byte{0})
		case int64:
			head[0] = 1
			binary.BigEndian.PutUint64(head[1:], uint64(v)) //nolint:gosec // any form of it will do
			sum = crc64.Update(sum, sumTable, head[:])
		case string:
			head[0] = 2
			binary.BigEndian.PutUint64(head[1:], uint64(len(v)))
			sum = crc64.Update(crc64.Update(sum, sumTable, head[:]), sumTable, []byte(v))
		case []byte:
			head[0] = 3
			binary.BigEndian.PutUint64(head[1:], uint64(len(v)))
			sum = crc64.Update(crc64.Update(sum, sumTable, head[:]), sumTable, v)
		}
	}
	return int64(sum)
}

// openSQLite opens the database for its one writer, or for readers.
func openSQLite(path string, connections int, query url.Values) (*sql.DB, error) {
	query.Add("_busy_timeout", strconv.Itoa(busyTimeout))
	query.Add("_dqs", "0")
	query.Add("_error_rc", "1")
	db, err := sql.Open(driverName, "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+query.Encode())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	db.SetConnMaxLifetime(0)
	return db, nil
}

func openWriter(path string) (*sql.DB, error) {
	// SQLite would let everybody read what it makes, in a directory that lets
	// them in. Its log gets the permissions of the database.
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err == nil {
		err = file.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	pages := int64(checkpointPages)
	if _, total, ok := diskSpace(filepath.Dir(path)); ok {
		pages = min(pages, total/checkpointPart/pageSize)
	}
	return openSQLite(path, 1, url.Values{
		"_auto_vacuum": {"INCREMENTAL"},
		"_pragma": {
			fmt.Sprintf("page_size=%d", pageSize), "journal_mode=WAL", "synchronous=FULL", "secure_delete=ON",
			fmt.Sprintf("wal_autocheckpoint=%d", pages), "temp_store=MEMORY", "cache_size=-16000",
		},
	})
}

func openReaders(path string) (*sql.DB, error) {
	return openSQLite(path, 4, url.Values{"_query_only": {"1"}, "_pragma": {"temp_store=MEMORY"}})
}
