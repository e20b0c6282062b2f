package klavi

// CPF returns the eleven digits of a person's tax id. Dots, dashes, slashes and spaces between them are dropped, where
// ever they stand; any other character, a wrong number of digits, a wrong check digit, or one digit eleven times (which
// has right check digits, but was never issued) make it false.
func CPF(s string) (string, bool) {
	var digits [11]byte
	if !canonicalTaxID(digits[:], s) {
		return "", false
	}
	repeated := true
	for _, c := range digits {
		if c < '0' || c > '9' {
			return "", false
		}
		repeated = repeated && c == digits[0]
	}
	if repeated || digits[9] != cpfCheckDigit(digits[:9]) || digits[10] != cpfCheckDigit(digits[:10]) {
		return "", false
	}
	return string(digits[:]), true
}

// CNPJ returns the fourteen characters of a business's tax id, letters in upper case: twelve digits or letters (the
// Receita Federal issues letters from July 2026 on), then two check digits. Dots, dashes, slashes and spaces are
// dropped; anything else that does not belong, wrong check digits, or all zeros make it false.
func CNPJ(s string) (string, bool) {
	var id [14]byte
	if !canonicalTaxID(id[:], s) {
		return "", false
	}
	repeated := true
	for _, c := range id {
		repeated = repeated && c == id[0]
	}
	if repeated || id[12] != cnpjCheckDigit(id[:12]) || id[13] != cnpjCheckDigit(id[:13]) {
		return "", false
	}
	return string(id[:]), true
}

// canonicalTaxID fills id with the digits and letters of s, and reports whether they are exactly as many and nothing
// but punctuation stands between them.
func canonicalTaxID(id []byte, s string) bool {
	n := 0
	for i := range len(s) {
		c := s[i]
		switch {
		case c == '.' || c == '-' || c == '/' || c == ' ':
			continue
		case 'a' <= c && c <= 'z':
			c -= 'a' - 'A'
		case 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		default:
			return false
		}
		if n == len(id) {
			return false
		}
		id[n] = c
		n++
	}
	return n == len(id)
}

// cpfCheckDigit weighs the digits 2, 3, 4, ... from the right.
func cpfCheckDigit(digits []byte) byte {
	sum := 0
	for i, c := range digits {
		sum += int(c-'0') * (len(digits) + 1 - i)
	}
	return checkDigit(sum)
}

// cnpjCheckDigit weighs the characters 2 to 9 from the right, again and again. A character's value is its ASCII code
// less 48, which for a digit is the digit.
func cnpjCheckDigit(id []byte) byte {
	sum := 0
	for i, c := range id {
		sum += int(c-'0') * (2 + (len(id)-1-i)%8)
	}
	return checkDigit(sum)
}

func checkDigit(sum int) byte {
	if rest := sum % 11; rest >= 2 {
		return byte('0' + 11 - rest)
	}
	return '0'
}
