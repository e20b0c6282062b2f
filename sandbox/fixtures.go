package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// checkFixtures reads every file of a fixtures directory, so that a mistake shows when the config loads.
func checkFixtures(dir fs.FS) error {
	files, err := fs.Glob(dir, "*.json")
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return errors.New("no <product>.json in it")
	}
	for _, file := range files {
		if !productName.MatchString(strings.TrimSuffix(file, ".json")) {
			return fmt.Errorf("%s: want <product>.json, such as pf_credit_card.json", file)
		}
		b, err := fs.ReadFile(dir, file)
		if err != nil {
			return err
		}
		var r report
		if err := r.useFixture(b); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return nil
}

// loadFixture takes the data of <dir>/<product>.json, if there is one.
func (r *report) loadFixture(dir string) {
	if dir == "" {
		return
	}
	b, err := os.ReadFile(filepath.Join(dir, r.ProductName+".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		err = r.useFixture(b)
	}
	if err != nil {
		r.Code, r.Message = 5000, "the fixture of "+r.ProductName+" cannot be read: "+err.Error()
	}
}

// useFixture keeps the order of a fixture's members. Of the header only code, message and productVersion are its own; ids,
// time, links and externalInfo are filled in.
func (r *report) useFixture(b []byte) error {
	d := jsontext.NewDecoder(bytes.NewReader(b))
	start, err := d.ReadToken()
	if err != nil {
		return err
	}
	if start.Kind() != '{' {
		return errors.New("want a JSON object")
	}
	members := []byte{}
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return err
		}
		key := name.String()
		value, err := d.ReadValue()
		if err != nil {
			return err
		}
		switch key {
		case "code":
			err = json.Unmarshal(value, &r.Code)
		case "message":
			err = json.Unmarshal(value, &r.Message)
		case "productVersion":
			err = json.Unmarshal(value, &r.ProductVersion)
		case "requestId", "productName", "productReportId", "productReportTime", "enquiryCpf", "enquiryCnpj", "links", "externalInfo":
		default:
			quoted, _ := jsontext.AppendQuote(nil, key)
			if len(members) > 0 {
				members = append(members, ',')
			}
			members = append(append(append(members, quoted...), ':'), value...)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	if len(members) == 0 {
		return errors.New("it holds no data besides header keys")
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	if _, err := d.ReadToken(); err != io.EOF {
		return errors.New("something follows the JSON object")
	}
	r.members = members
	return nil
}
