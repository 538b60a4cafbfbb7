module casemate-swift-test

go 1.19

require github.com/ncw/swift v1.0.52
